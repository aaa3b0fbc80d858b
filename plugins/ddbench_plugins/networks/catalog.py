"""Names of the built-in networks: what each builds, without importing torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddbench_plugins.networks.base import Network

_HERE = "ddbench_plugins.networks"


@dataclass(frozen=True)
class NetworkEntry:
    """A named network: ``build`` function as "module:function", its options, one line about it."""

    target: str
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)


def _entries() -> dict[str, NetworkEntry]:
    entries = {}
    norms = {"": ("instance", "instance norm"), "-bn": ("batch", "batch norm"), "-gn": ("group", "group norm")}
    for depth in range(1, 7):
        for suffix, (norm, words) in norms.items():
            entries[f"convnet-{depth}{suffix}"] = NetworkEntry(
                f"{_HERE}.convnet:build",
                f"ConvNet of {depth} blocks, width 128, {words}",
                {"depth": depth, "norm": norm},
            )
    for depth in (10, 18):
        for suffix in ("", "-bn"):
            norm, words = norms[suffix]
            for name, module, title in (("resnet-ap", "resnet_ap", "ResNetAP"), ("resnet", "resnet", "ResNet")):
                entries[f"{name}-{depth}{suffix}"] = NetworkEntry(
                    f"{_HERE}.{module}:build", f"{title}-{depth} of IDC, {words}", {"depth": depth, "norm": norm}
                )
    entries["resnet-10-bn-narrow"] = NetworkEntry(
        f"{_HERE}.resnet:build",
        "ResNet-10 of IDC's CIFAR tables, batch norm, 32 to 256 wide",
        {"depth": 10, "norm": "batch", "narrow": True},
    )
    for depth in (18, 50, 101):
        entries[f"modified-resnet-{depth}"] = NetworkEntry(
            f"{_HERE}.modified_resnet:build",
            f"torchvision ResNet-{depth}, with a 3×3 stem at 32 and 64 pixels",
            {"depth": depth},
        )
    entries["densenet-cifar"] = NetworkEntry(f"{_HERE}.densenet:build", "DenseNet-CIFAR of IDC")
    zoo = {
        "mlp": ("mlp", None, "MLP with two hidden layers of 128"),
        "lenet": ("lenet", None, "LeNet"),
        "alexnet": ("alexnet", None, "AlexNet for small images"),
        "alexnet-bn": ("alexnet", "batch", "AlexNet for small images, batch norm"),
        "vgg11": ("vgg11", None, "VGG11 for small images, instance norm"),
        "vgg11-bn": ("vgg11", "batch", "VGG11 for small images, batch norm"),
        "dc-resnet-18": ("resnet18", None, "ResNet18 of Dataset Condensation, instance norm"),
        "dc-resnet-18-bn": ("resnet18", "batch", "ResNet18 of Dataset Condensation, batch norm"),
        "dc-resnet-18-bn-ap": ("resnet18-ap", "batch", "ResNet18BN_AP of Dataset Condensation"),
    }
    for name, (architecture, norm, summary) in zoo.items():
        options = {"architecture": architecture} | ({"norm": norm} if norm else {})
        entries[name] = NetworkEntry(f"{_HERE}.dc_zoo:build", summary, options)
    return entries


NETWORKS: Mapping[str, NetworkEntry] = _entries()
"""Every built-in name."""

BRIDGES: Mapping[str, str] = {family: f"{_HERE}.bridges:build_{family}" for family in ("timm", "torchvision")}
"""Families of foreign networks: ``timm:NAME`` and ``torchvision:NAME``."""


def find_network(name: str) -> NetworkEntry:
    """Entry of a name, also of ``timm:NAME`` and ``torchvision:NAME``. Raises ``ValueError`` for an unknown one."""
    family, colon, model = name.partition(":")
    if colon and family in BRIDGES:
        return NetworkEntry(BRIDGES[family], f"{family} model {model}", {"name": model})
    if name not in NETWORKS:
        close = difflib.get_close_matches(name, NETWORKS, n=3) or sorted(NETWORKS)
        raise ValueError(f"no network is called {name!r}; did you mean {' or '.join(close)}?")
    return NETWORKS[name]


def build_network(name: str, *, in_channels: int, image_size: int, num_classes: int, **options: Any) -> Network:
    """Build a network by name for square images of ``image_size`` pixels; ``options`` override those of the name."""
    entry = find_network(name)
    module, function = entry.target.split(":")
    build = getattr(import_module(module), function)
    return build(
        in_channels=in_channels, image_size=image_size, num_classes=num_classes, **{**entry.options, **options}
    )
