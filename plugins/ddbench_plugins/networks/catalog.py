"""Names of the built-in networks: what each builds, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    # The axes of Dataset Condensation's evaluation pools: norm, pooling, width, activation (get_eval_pool).
    variants: dict[str, tuple[str, dict[str, Any]]] = {
        "ln": ("layer norm", {"norm": "layer"}),
        "nn": ("no norm", {"norm": "none"}),
        "np": ("instance norm, no pooling", {"pooling": "none"}),
        "mp": ("instance norm, max pooling", {"pooling": "max"}),
        "sigmoid": ("instance norm, sigmoid", {"activation": "sigmoid"}),
        "leaky-relu": ("instance norm, leaky ReLU", {"activation": "leaky-relu"}),
        "swish": ("instance norm, swish", {"activation": "swish"}),
        "swish-bn": ("batch norm, swish", {"activation": "swish", "norm": "batch"}),
        **{f"w{width}": (f"{width} wide, instance norm", {"width": width}) for width in (32, 64, 256)},
    }
    for suffix, (words, options) in variants.items():
        entries[f"convnet-3-{suffix}"] = NetworkEntry(
            f"{_HERE}.convnet:build", f"ConvNet of 3 blocks, {words}", {"depth": 3, **options}
        )
    for depth, suffix, narrow in product((10, 18), ("", "-bn"), (False, True)):
        norm, words = norms[suffix]
        where, wide = (" of IDC's CIFAR tables", ", 32 to 256 wide") if narrow else (" of IDC", "")
        flags = {"narrow": True} if narrow else {}
        for name, title, pooled in (("resnet-ap", "ResNetAP", {"average_pool": True}), ("resnet", "ResNet", {})):
            entries[f"{name}-{depth}{suffix}{'-narrow' * narrow}"] = NetworkEntry(
                f"{_HERE}.resnet:build",
                f"{title}-{depth}{where}, {words}{wide}",
                {"depth": depth, "norm": norm} | flags | pooled,
            )
    for depth in (18, 50, 101):
        entries[f"modified-resnet-{depth}"] = NetworkEntry(
            f"{_HERE}.modified_resnet:build",
            f"torchvision ResNet-{depth}, with a 3×3 stem at 32 and 64 pixels",
            {"depth": depth},
        )
    entries["densenet-cifar"] = NetworkEntry(f"{_HERE}.densenet:build", "DenseNet-CIFAR of IDC")
    entries["efficientnet-b0"] = NetworkEntry(f"{_HERE}.efficientnet:build", "EfficientNet-B0 of IDC")
    for depth, width, (suffix, norm) in product((3, 4), (128, 64, 32), (("", "none"), ("-bn", "batch"))):
        size = "" if width == 128 else f"-w{width}"
        entries[f"frepo-convnet-{depth}{suffix}{size}"] = NetworkEntry(
            f"{_HERE}.widening:build",
            f"ConvNet of FRePo, {depth} blocks, {width} to {width << depth - 1} wide, {norm if suffix else 'no'} norm",
            {"depth": depth, "width": width, "norm": norm},
        )
    for owner, words in (("kip", "a convolution before its 3 blocks"), ("rfad", "3 blocks")):
        for width in (1024, 64):
            entries[f"{owner}-convnet-3{'' if width == 1024 else f'-w{width}'}"] = NetworkEntry(
                f"{_HERE}.gaussian:build",
                f"ConvNet of {owner.upper()}, {words}, {width} wide, no norm",
                {"width": width, **({"prepended": True} if owner == "kip" else {})},
            )
    zoo = {
        "mlp": ("mlp", None, "MLP with two hidden layers of 128"),
        "lenet": ("lenet", None, "LeNet"),
        "alexnet": ("alexnet", None, "AlexNet for small images"),
        "alexnet-bn": ("alexnet", "batch", "AlexNet for small images, batch norm"),
        "alexnet-cifar": ("alexnet-cifar", None, "AlexNet of Dataset Distillation for CIFAR, local response norm"),
        "vgg11": ("vgg11", None, "VGG11 for small images, instance norm"),
        "vgg11-bn": ("vgg11", "batch", "VGG11 for small images, batch norm"),
        "dc-resnet-18": ("resnet18", None, "ResNet18 of Dataset Condensation, instance norm"),
        "dc-resnet-18-bn": ("resnet18", "batch", "ResNet18 of Dataset Condensation, batch norm"),
        "dc-resnet-18-bn-ap": ("resnet18-ap", "batch", "ResNet18BN_AP of Dataset Condensation"),
    }
    for name, (architecture, layer, summary) in zoo.items():
        options = {"architecture": architecture, **({"norm": layer} if layer else {})}
        entries[name] = NetworkEntry(f"{_HERE}.dc_zoo:build", summary, options)
    # timm's architectures, made small enough for 32 pixels and a CPU; the summary says how.
    small: dict[str, tuple[str, str, dict[str, Any]]] = {
        "vit-small": (
            "vit_tiny_patch16_224",
            "ViT of timm for small images: patch 4, 4 blocks, width 128, 4 heads",
            {"patch_size": 4, "depth": 4, "embed_dim": 128, "num_heads": 4},
        ),
        "convnext-small": (
            "convnext_atto",
            "ConvNeXt of timm for small images: stem of patch 2, 4 stages of 2 blocks, 32 to 256 wide",
            {"patch_size": 2, "depths": (2, 2, 2, 2), "dims": (32, 64, 128, 256)},
        ),
        "swin-small": (
            "swin_tiny_patch4_window7_224",
            "Swin of timm for small images: patch 2, window 4, 3 stages of 2 blocks, 48 to 192 wide",
            {"patch_size": 2, "window_size": 4, "depths": (2, 2, 2), "embed_dim": 48, "num_heads": (2, 4, 8)},
        ),
    }
    for name, (architecture, summary, options) in small.items():
        entries[name] = NetworkEntry(f"{_HERE}.bridges:build_timm", summary, {"name": architecture, **options})
    return entries


NETWORKS: Mapping[str, NetworkEntry] = _entries()
"""Every built-in name."""

BRIDGES: Mapping[str, str] = {family: f"{_HERE}.bridges:build_{family}" for family in ("timm", "torchvision")}
"""Families of foreign networks: ``timm:NAME`` and ``torchvision:NAME``."""
