"""ResNetAP: ResNet whose strides are average poolings (IDC and MinimaxDiffusion, resnet_ap.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench_plugins.networks.base import initialise_he_fan_out
from ddbench_plugins.networks.resnet import ResNet, check_depth, stem_for

if TYPE_CHECKING:
    from ddbench_plugins.networks.norms import Norm


def build(
    *,
    in_channels: int,
    image_size: int,
    num_classes: int,
    depth: int = 10,
    norm: Norm = "instance",
    narrow: bool = False,
) -> ResNet:
    """Build a ResNetAP; the stem follows the image size (7×7 stride 1 and average pooling by 4 above 128 pixels).

    ``narrow`` gives the 32-256 wide variant of data sets named "cifar*". Raises ``ValueError`` for an unknown depth.
    """
    check_depth(depth)
    network = ResNet(
        in_channels=in_channels,
        num_classes=num_classes,
        depth=depth,
        norm=norm,
        stem="small" if narrow else stem_for(image_size),
        narrow=narrow,
        average_pool=True,
    )
    initialise_he_fan_out(network)
    return network
