"""The ConvNets of KIP and RFAD: no norm, weights and biases drawn from normal distributions.

google-research kip/nn_training.ipynb (NTK ConvNet in the standard parametrisation) and yolky/RFAD models.py, which draw
alike. 28×28 images are not padded to 32×32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ddbench_plugins.networks.base import Network

if TYPE_CHECKING:
    from torch import Tensor

#: Weights are N(0, WEIGHT / fan-in), biases N(0, BIAS).
WEIGHT, BIAS = 2.0, 0.01


class GaussianConvNet(Network):
    """``depth`` blocks of convolution 3×3 (``width`` channels), ReLU and average pooling, then one linear layer.

    With ``prepended`` a convolution and a ReLU come before them. Raises ``ValueError`` if the images are too small for
    the depth.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        depth: int = 3,
        width: int = 1024,
        prepended: bool = False,
    ) -> None:
        super().__init__()
        side = image_size >> depth
        if side < 1:
            raise ValueError(
                f"a ConvNet of {depth} blocks needs images of at least {2**depth} pixels, got {image_size}"
            )
        layers: list[nn.Module] = []
        channels = in_channels
        for block in range(-prepended, depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.AvgPool2d(2)] if block >= 0 else []
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=(WEIGHT / layer.weight[0].numel()) ** 0.5)
                nn.init.normal_(layer.bias, std=BIAS**0.5)

    def embed(self, x: Tensor) -> Tensor:
        """Flattened output of the last block."""
        return self.features(x).flatten(1)


build = GaussianConvNet
