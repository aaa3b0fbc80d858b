"""ResNet and ResNetAP of IDC and MinimaxDiffusion (models/resnet.py, resnet_ap.py), with torchvision's layer names.

At 224 pixels ResNet is torchvision's. ResNetAP has average poolings in place of strides; its stem for more than 128
pixels is 7×7 of stride 1, pooled by 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import nn

from ddbench_plugins.networks.base import Network, initialise_he_fan_out
from ddbench_plugins.networks.norms import Norm, make_norm

if TYPE_CHECKING:
    from torch import Tensor

Stem = Literal["small", "mid", "large"]

BLOCKS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def stem_for(image_size: int) -> Stem:
    """Stem by image side: up to 64 pixels "small" (no pooling), up to 128 "mid", else "large" (7×7)."""
    return "small" if image_size <= 64 else "mid" if image_size <= 128 else "large"


class Block(nn.Module):
    """Basic block (two 3×3 convolutions) or bottleneck (1×1, 3×3, 1×1 with four times the width).

    With ``average_pool`` every stride is a stride-1 convolution followed by average pooling (ResNetAP).
    """

    def __init__(
        self, channels: int, width: int, stride: int, norm: Norm, *, bottleneck: bool, average_pool: bool
    ) -> None:
        super().__init__()
        out = width * 4 if bottleneck else width
        conv_stride = 1 if average_pool else stride
        pool = nn.AvgPool2d(stride) if average_pool and stride != 1 else nn.Identity()
        bias = norm == "none"
        if bottleneck:
            self.conv1 = nn.Conv2d(channels, width, 1, bias=bias)
            self.bn1 = make_norm(norm, width)
        first = nn.Conv2d(width if bottleneck else channels, width, 3, conv_stride, 1, bias=bias)
        last = nn.Conv2d(width, out, 1, bias=bias) if bottleneck else nn.Conv2d(width, out, 3, 1, 1, bias=bias)
        names = ("2", "3") if bottleneck else ("1", "2")
        for name, conv, size in zip(names, (first, last), (width, out), strict=True):
            self.add_module(f"conv{name}", conv)
            self.add_module(f"bn{name}", make_norm(norm, size))
        self.bottleneck = bottleneck
        self.pool = pool
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, conv_stride, bias=bias),
                *([pool] if average_pool and stride != 1 else []),
                make_norm(norm, out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C', H/stride, W/stride]``."""
        if self.bottleneck:
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.pool(self.relu(self.bn2(self.conv2(y))))
            y = self.bn3(self.conv3(y))
        else:
            y = self.pool(self.relu(self.bn1(self.conv1(x))))
            y = self.bn2(self.conv2(y))
        return self.relu(y + self.downsample(x))


class ResNet(Network):
    """Four stages of residual blocks, global average pooling, one linear layer."""

    head_name = "fc"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        depth: int,
        norm: Norm,
        stem: Stem,
        narrow: bool,
        average_pool: bool = False,
        global_pool: bool = True,
        final_side: int = 1,
    ) -> None:
        super().__init__()
        bottleneck = depth >= 50
        base = 32 if narrow else 64
        blocks = (max((depth - 2) // 6, 1),) * 4 if narrow else BLOCKS[depth]
        bias = norm == "none"
        if stem == "large":
            self.conv1 = nn.Conv2d(in_channels, base, 7, 1 if average_pool else 2, 3, bias=bias)
        else:
            self.conv1 = nn.Conv2d(in_channels, base, 3, 1, 1, bias=bias)
        self.bn1 = make_norm(norm, base)
        self.relu = nn.ReLU(inplace=True)
        if stem == "small":
            self.maxpool: nn.Module = nn.Identity()
        elif average_pool:
            self.maxpool = nn.AvgPool2d(4 if stem == "large" else 2)
        else:
            self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = base
        for stage, count in enumerate(blocks):
            layers = []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                width = base * 2**stage
                layers.append(Block(channels, width, stride, norm, bottleneck=bottleneck, average_pool=average_pool))
                channels = width * 4 if bottleneck else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1) if global_pool else nn.Identity()
        self.fc = nn.Linear(channels * (1 if global_pool else final_side**2), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Globally pooled features (flattened last map for networks without global pooling), ``[B, F]``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.avgpool(x).flatten(1)


def build(
    *,
    in_channels: int,
    image_size: int,
    num_classes: int,
    depth: int = 10,
    norm: Norm = "instance",
    narrow: bool = False,
    average_pool: bool = False,
) -> ResNet:
    """Build a ResNet with strided convolutions, or with ``average_pool`` a ResNetAP; the stem follows the image size.

    ``norm`` defaults to "instance" like MinimaxDiffusion's command line (IDC's own ResNets use "batch"). ``narrow``
    gives the 32-256 wide variant that IDC uses for data sets named "cifar*", with ⌊(depth−2)/6⌋ blocks per stage.
    Raises ``ValueError`` for an unknown depth.
    """
    check_depth(depth)
    network = ResNet(
        in_channels=in_channels,
        num_classes=num_classes,
        depth=depth,
        norm=norm,
        stem="small" if narrow else stem_for(image_size),
        narrow=narrow,
        average_pool=average_pool,
    )
    initialise_he_fan_out(network)
    return network


def check_depth(depth: int) -> None:
    """Raise ``ValueError`` unless a ResNet of this depth exists."""
    if depth not in BLOCKS:
        raise ValueError(f"no ResNet of depth {depth}; choose one of {', '.join(map(str, BLOCKS))}")
