"""The training images in memory, and random batches of a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch

from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.normalisation import constants
from ddbench_plugins.training.predict import as_float

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

    from ddbench import Context, Dataset


class RealImages:
    """The training split as bytes on a device; what it gives out is normalised float32 [n, C, S, S], channels-last.

    ``normalisation`` names the constants: the data set's own, or one of
    :data:`ddbench_plugins.training.normalisation.CONSTANTS`; ``progress`` gets images read and images in all.
    """

    @classmethod
    def of(cls, ctx: Context, normalisation: str = "dataset") -> Self:
        """Read the data set of a run onto its device, with a progress bar."""
        with ctx.progress("reading images", len(ctx.dataset.train)) as advance:
            return cls(ctx.dataset, normalisation=normalisation, device=ctx.machine.device, progress=advance)

    def __init__(
        self,
        dataset: Dataset,
        *,
        normalisation: str = "dataset",
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.mean, self.std = constants(dataset, normalisation)
        self._scaled = normalise(self.mean, self.std)
        batches = dataset.train.images.batches(dataset.image_size, progress=progress)
        # [N, S, S, C]: batches come out channels-last
        self._images = torch.cat([torch.from_numpy(batch).to(device) for batch in batches])
        self._members = [torch.from_numpy(dataset.train.of_class(label)) for label in range(dataset.num_classes)]
        self._unused = torch.Generator()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self._members)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, height, width, channels = self._images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self._images.device

    def members(self, label: int) -> Tensor:
        """Positions int64 [n] of a class in the training split."""
        return self._members[label]

    def at(self, positions: Tensor) -> Tensor:
        """Return the images at these positions of the training split."""
        chosen = self._images[positions.to(self._images.device)].permute(0, 3, 1, 2)
        return self._scaled(as_float(chosen), self._unused)

    def draw(self, label: int, count: int, generator: Generator) -> Tensor:
        """Draw ``count`` images of a class without replacement; all of them where the class has fewer."""
        members = self._members[label]
        return self.at(members[torch.randperm(len(members), generator=generator)[:count]])
