"""torchvision's ResNet, with the 3×3 stem and no max-pooling at 32 and 64 pixels (RDED synthesize/utils.py, SRe2L)."""

from __future__ import annotations

from ddbench_plugins.networks.base import initialise_he_fan_out
from ddbench_plugins.networks.resnet import ResNet, check_depth


def build(*, in_channels: int, image_size: int, num_classes: int, depth: int = 18) -> ResNet:
    """Build a batch-norm ResNet with torchvision's structure, initialisation and parameter names.

    Up to 64 pixels the stem is one 3×3 convolution; above, torchvision's own 7×7 stride 2 with max-pooling. Raises
    ``ValueError`` for an unknown depth.
    """
    check_depth(depth)
    small = image_size <= 64
    network = ResNet(
        in_channels=in_channels,
        num_classes=num_classes,
        depth=depth,
        norm="batch",
        stem="small" if small else "large",
        narrow=False,
    )
    initialise_he_fan_out(network)
    if small:
        network.conv1.reset_parameters()  # the replaced stem keeps PyTorch's default initialisation
    return network
