"""Normalisation constants by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddbench import Dataset

#: Mean and std that released code uses on other data sets too: RDED ImageNet's on all, SRe2L CIFAR-10's on CIFAR-100,
#: G-VBSM and EDC CIFAR-100's on CIFAR-10; those of zeyuanyin/tiny-imagenet; those of many published weights.
CONSTANTS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "tiny-imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


#: Before a ZCA recipe's name: images come whitened, and nothing more is done to them.
ZCA = "zca "


def constants(dataset: Dataset, normalisation: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Normalisation constants by name: ``dataset`` for its own, ``zca …`` for none, or one of :data:`CONSTANTS`."""
    if normalisation.startswith(ZCA):
        return (0.0,) * dataset.channels, (1.0,) * dataset.channels
    if normalisation == "dataset":
        return dataset.mean, dataset.std
    mean, std = CONSTANTS[normalisation]
    return mean[: dataset.channels], std[: dataset.channels]
