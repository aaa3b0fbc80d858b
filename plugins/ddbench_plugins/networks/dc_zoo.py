"""The other networks of Dataset Condensation's evaluation pools (VICO-UoE/DatasetCondensation networks.py).

All keep PyTorch's default initialisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ddbench_plugins.networks.base import Network
from ddbench_plugins.networks.norms import Norm, make_norm
from ddbench_plugins.networks.resnet import ResNet

if TYPE_CHECKING:
    from torch import Tensor

Architecture = Literal["mlp", "lenet", "alexnet", "alexnet-cifar", "vgg11", "resnet18", "resnet18-ap"]


class Sequence(Network):
    """Layers in a row, flattened, then one linear layer."""

    def __init__(self, layers: list[nn.Module], in_channels: int, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        with torch.no_grad():  # batch norms must not see the probe
            self.features.eval()
            try:
                size = self.features(torch.zeros(2, in_channels, image_size, image_size)).flatten(1).shape[1]
            except RuntimeError as error:
                raise ValueError(f"images of {image_size} pixels are too small for this network") from error
            self.features.train()
        self.classifier = nn.Linear(size, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Input of the last linear layer, ``[B, F]``."""
        return self.features(x).flatten(1)


def build(
    *,
    in_channels: int,
    image_size: int,
    num_classes: int,
    architecture: Architecture = "mlp",
    norm: Norm | None = None,
) -> Network:
    """Build one network of the zoo.

    ``norm`` defaults to what the plain name means there: "none" for AlexNet, "instance" for VGG11 and ResNet18,
    "batch" for ResNet18-AP; MLP and LeNet have none. Raises ``ValueError`` for images that are too small.
    """
    grey = in_channels == 1 and image_size == 28
    match architecture:
        case "mlp":
            pixels = in_channels * image_size**2
            layers = [nn.Flatten(), nn.Linear(pixels, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        case "lenet":
            layers = _lenet(in_channels, image_size, grey)
        case "alexnet":
            layers = _alexnet(in_channels, norm or "none", grey)
        case "alexnet-cifar":
            layers = _alexnet_cifar(in_channels, image_size)
        case "vgg11":
            layers = _vgg11(in_channels, norm or "instance", grey)
        case "resnet18" | "resnet18-ap":
            pooled = architecture == "resnet18-ap"
            return ResNet(
                in_channels=in_channels,
                num_classes=num_classes,
                depth=18,
                norm=norm or ("batch" if pooled else "instance"),
                stem="small",
                narrow=False,
                average_pool=pooled,
                global_pool=not pooled,
                final_side=image_size // 8,
            )
    return Sequence(layers, in_channels, image_size, num_classes)


def _lenet(in_channels: int, image_size: int, grey: bool) -> list[nn.Module]:
    side = (((image_size if grey else image_size - 4) // 2) - 4) // 2
    if side < 1:
        raise ValueError(f"images of {image_size} pixels are too small for LeNet")
    return [
        nn.Conv2d(in_channels, 6, 5, padding=2 if grey else 0),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * side**2, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
    ]


def _conv(channels: int, out: int, kernel: int, padding: int, norm: Norm) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, out, kernel, padding=padding)]
    if norm != "none":
        layers.append(make_norm(norm, out))
    return [*layers, nn.ReLU()]


def _alexnet(in_channels: int, norm: Norm, grey: bool) -> list[nn.Module]:
    return [
        *_conv(in_channels, 128, 5, 4 if grey else 2, norm),
        nn.MaxPool2d(2),
        *_conv(128, 192, 5, 2, norm),
        nn.MaxPool2d(2),
        *_conv(192, 256, 3, 1, norm),
        *_conv(256, 192, 3, 1, norm),
        *_conv(192, 192, 3, 1, norm),
        nn.MaxPool2d(2),
    ]


def _alexnet_cifar(in_channels: int, image_size: int) -> list[nn.Module]:
    """AlexCifarNet of Wang et al. 2018 (ssnl/dataset-distillation networks/networks.py)."""
    side = -(-image_size // 2)
    side = -(-side // 2)
    return [
        nn.Conv2d(in_channels, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.LocalResponseNorm(4, alpha=0.001 / 9, beta=0.75, k=1),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ReLU(),
        nn.LocalResponseNorm(4, alpha=0.001 / 9, beta=0.75, k=1),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Flatten(),
        nn.Linear(64 * side**2, 384),
        nn.ReLU(),
        nn.Linear(384, 192),
        nn.ReLU(),
    ]


def _vgg11(in_channels: int, norm: Norm, grey: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels, padding = in_channels, 3 if grey else 1
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if width == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += _conv(channels, width, 3, padding, norm)
        channels, padding = width, 1
    return layers
