"""FRePo's ConvNet: every block has twice the channels of the one before (Zhou et al. 2022, lib/models/networks.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ddbench_plugins.networks.base import Network
from ddbench_plugins.networks.norms import Norm, make_norm

if TYPE_CHECKING:
    from torch import Tensor

#: Standard deviation of N(0, 1) cut off at ±2, by which Flax divides.
TRUNCATED = 0.87962566103423978
#: Flax keeps a tenth of the old running statistics per step, as FRePo sets it.
BN_MOMENTUM = 0.9


class WideningConvNet(Network):
    """``depth`` blocks of convolution 3×3 (``width`` · 2^i channels), ReLU and average pooling, then one linear layer.

    The norm comes *before* every convolution but the first. Weights are drawn as Flax does (LeCun's normal, biases 0).
    Raises ``ValueError`` if the images are too small for the depth.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        depth: int = 3,
        width: int = 128,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = in_channels, image_size
        # 28×28 grey images are padded to 32×32 by the first convolution.
        padding = 3 if in_channels == 1 and image_size == 28 else 1
        for block in range(depth):
            if block and norm != "none":
                layers.append(make_norm(norm, channels, side))
            wide = width * 2**block
            layers += [nn.Conv2d(channels, wide, 3, padding=padding), nn.ReLU(inplace=True), nn.AvgPool2d(2)]
            channels, side, padding = wide, (side + 2 * padding - 2) // 2, 1
        if side < 1:
            raise ValueError(
                f"a ConvNet of {depth} blocks needs images of at least {2**depth} pixels, got {image_size}"
            )
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * side * side, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _lecun_normal(module)
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = BN_MOMENTUM

    def embed(self, x: Tensor) -> Tensor:
        """Flattened output of the last block (8192 numbers at 32 pixels and a width of 128)."""
        return self.features(x).flatten(1)


def _lecun_normal(layer: nn.Conv2d | nn.Linear) -> None:
    std = layer.weight[0].numel() ** -0.5 / TRUNCATED
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(layer.bias)


build = WideningConvNet
