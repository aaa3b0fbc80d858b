"""Images that hold several smaller ones, which is what networks see (IDM's and NCFM's partitioning)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.matching.images import Init, RealImages, SyntheticImages, initial_images
from ddbench_plugins.training.formation import stitch, tiles

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench import DistilledSet
    from ddbench_plugins.training.formation import Scaling


class TiledImages(SyntheticImages):
    """Pixels [K·ipc, C, S, S]; a class shows factor² · ipc images [.., C, S, S], all first tiles first."""

    def __init__(self, images: Tensor, ipc: int, lr: float, factor: int) -> None:
        super().__init__(images, ipc, lr)
        self.factor = factor

    def of_class(self, label: int | Tensor) -> Tensor:
        """Return what the images of a class are decoded to; gradients flow back into the whole."""
        return tiles(super().of_class(label), self.factor)

    def distilled(self, space: str = "normalized", **fields: Any) -> DistilledSet:
        """Return the images with their factor, which evaluators decode by."""
        tiled = {"factor": self.factor} if self.factor > 1 else {}
        return super().distilled(space, extra={**fields.pop("extra", {}), **tiled}, **fields)


def initial_tiles(
    real: RealImages, ipc: int, factor: int, init: Init, seed: int, *, mode: Scaling = "nearest"
) -> Tensor:
    """Return what images begin as: noise, or factor² training images of the class in each, scaled down by ``mode``."""
    if init == "noise" or factor == 1:
        return initial_images(real, ipc, init, seed)
    drawn = initial_images(real, ipc * factor**2, init, seed).split(ipc * factor**2)
    return torch.cat([stitch(crops, factor, real.shape[-1], mode) for crops in drawn])


class UnitTiles(TiledImages):
    """Tiled images in the [0, 1] scale, which networks see normalised."""

    def __init__(self, images: Tensor, ipc: int, lr: float, factor: int, real: RealImages) -> None:
        self.mean, self.std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (real.mean, real.std))
        super().__init__((images * self.std + self.mean).clamp(0, 1), ipc, lr, factor)

    def of_class(self, label: int | Tensor) -> Tensor:
        """Return what the images of a class are decoded to, normalised; gradients flow back into the whole."""
        return (super().of_class(label) - self.mean) / self.std

    def clamp(self) -> None:
        """Bring all pixels back into [0, 1]."""
        with torch.no_grad():
            self.images.clamp_(0, 1)

    @property
    def shown(self) -> Tensor:
        """The images that are the result."""
        return super().shown.clamp(0, 1)
