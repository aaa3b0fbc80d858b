"""DenseNet-CIFAR, IDC's cross-architecture network (densenet_cifar.py): growth 12, blocks 6/12/24/16, compression ½."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ddbench_plugins.networks.base import Network

if TYPE_CHECKING:
    from torch import Tensor


class Bottleneck(nn.Module):
    """BN, ReLU, 1×1 to four growths, BN, ReLU, 3×3 to one growth; the output is put before the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C + growth, H, W]``."""
        y = self.conv1(F.relu(self.bn1(x)))
        return torch.cat([self.conv2(F.relu(self.bn2(y))), x], 1)


class Transition(nn.Sequential):
    """BN, ReLU, 1×1 convolution, average pooling 2×2."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, out, 1, bias=False), nn.AvgPool2d(2))


class DenseNet(Network):
    """Dense blocks with transitions, global average pooling, one linear layer."""

    def __init__(self, in_channels: int, num_classes: int, growth: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)]
        for index, count in enumerate(blocks):
            for _ in range(count):
                layers.append(Bottleneck(channels, growth))
                channels += growth
            if index < len(blocks) - 1:
                layers.append(Transition(channels, channels // 2))
                channels //= 2
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(channels, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Globally pooled features ``[B, 384]``."""
        return self.features(x).flatten(1)


def build(*, in_channels: int, image_size: int, num_classes: int) -> DenseNet:
    """Build DenseNet-CIFAR. Raises ``ValueError`` below 8 pixels."""
    if image_size < 8:
        raise ValueError(f"DenseNet needs images of at least 8 pixels, got {image_size}")
    return DenseNet(in_channels, num_classes, 12, (6, 12, 24, 16))
