"""ConvNet-D, the standard network of the field (Zhao et al. 2021, VICO-UoE/DatasetCondensation networks.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import nn

from ddbench_plugins.networks import native
from ddbench_plugins.networks.base import Network
from ddbench_plugins.networks.norms import Norm, make_norm

if TYPE_CHECKING:
    from torch import Tensor

Activation = Literal["relu", "leaky-relu", "sigmoid", "swish"]
Pooling = Literal["avg", "max", "none"]

ACTIVATIONS = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky-relu": lambda: nn.LeakyReLU(0.01),
    "sigmoid": nn.Sigmoid,
    "swish": nn.SiLU,
}


class ConvNet(Network):
    """``depth`` blocks of convolution 3×3, norm, activation and pooling 2×2, then one linear layer.

    Layer names are those of the official code, so its checkpoints load. Raises ``ValueError`` if the images are too
    small for the depth.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        depth: int = 3,
        width: int = 128,
        norm: Norm = "instance",
        activation: Activation = "relu",
        pooling: Pooling = "avg",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = in_channels, image_size
        # 28×28 grey images are padded to 32×32 by the first convolution, as in the official code.
        padding = 3 if in_channels == 1 and image_size == 28 else 1
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, 3, padding=padding))
            side, channels, padding = side + 2 * padding - 2, width, 1
            if norm != "none":
                layers.append(make_norm(norm, width, side))
            layers.append(ACTIVATIONS[activation]())
            if pooling != "none":
                layers.append(nn.AvgPool2d(2) if pooling == "avg" else nn.MaxPool2d(2))
                side //= 2
        if side < 1:
            raise ValueError(f"ConvNet-{depth} needs images of at least {2**depth} pixels, got {image_size}")
        self.features = nn.Sequential(*layers)
        # Whether its blocks are those that the compiled kernel computes at once.
        self.fusible = norm == "instance" and activation == "relu" and pooling == "avg"
        self.classifier = nn.Linear(width * side * side, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Flattened output of the last block, ``[B, width·side·side]`` (the feature of distribution matching)."""
        if not self.fusible:
            return self.features(x).flatten(1)
        for start in range(0, len(self.features), 4):
            conv, norm, *rest = self.features[start : start + 4]
            x = conv(x)
            if native.fits(x, norm.weight, norm.bias, pooled=True):
                x = native.norm_relu_pool(x, norm.weight, norm.bias, norm.eps)
            else:
                for layer in (norm, *rest):
                    x = layer(x)
        return x.flatten(1)


build = ConvNet
