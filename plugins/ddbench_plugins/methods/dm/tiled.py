"""Images that hold several smaller ones, which is what networks see (IDM's and NCFM's partitioning)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.matching.images import Init, RealImages, SyntheticImages, initial_images
from ddbench_plugins.training.formation import stitch, tiles

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench import DistilledSet


class TiledImages(SyntheticImages):
    """Pixels [K·ipc, C, S, S]; a class shows factor² · ipc images [.., C, S, S], all first tiles first."""

    def __init__(self, images: Tensor, ipc: int, lr: float, factor: int) -> None:
        super().__init__(images, ipc, lr)
        self.factor = factor

    def of_class(self, label: int) -> Tensor:
        """Return what the images of a class are decoded to; gradients flow back into the whole."""
        return tiles(super().of_class(label), self.factor)

    def distilled(self, space: str = "normalized", **fields: Any) -> DistilledSet:
        """Return the images with their factor, which evaluators decode by."""
        tiled = {"factor": self.factor} if self.factor > 1 else {}
        return super().distilled(space, extra={**fields.pop("extra", {}), **tiled}, **fields)


def initial_tiles(real: RealImages, ipc: int, factor: int, init: Init, seed: int) -> Tensor:
    """Return what images begin as: noise, or factor² training images of the class in each, scaled down."""
    if init == "noise" or factor == 1:
        return initial_images(real, ipc, init, seed)
    drawn = initial_images(real, ipc * factor**2, init, seed).split(ipc * factor**2)
    return torch.cat([stitch(crops, factor, real.shape[-1]) for crops in drawn])
