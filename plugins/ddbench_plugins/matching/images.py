"""Both sides of a match: the training images in memory with random batches of a class, and the images optimised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch

from ddbench import DistilledSet
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.normalisation import ZCA, constants
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.pixels import finite
from ddbench_plugins.training.predict import as_float
from ddbench_plugins.training.seeding import make_generator
from ddbench_plugins.training.whitening import whitening_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from ddbench import Context, Dataset, Whitening

Init = Literal["noise", "real"]
MOMENTUM = 0.5


class RealImages:
    """The training split as bytes on a device; what it gives out is normalised float32 [n, C, S, S], channels-last.

    ``normalisation`` names the constants: the data set's own, or one of
    :data:`ddbench_plugins.training.normalisation.CONSTANTS`; with ``whitening``, images are whitened instead, and held
    as float32. ``progress`` gets images read and images in all.
    """

    @classmethod
    def of(cls, ctx: Context, normalisation: str = "dataset") -> Self:
        """Read the data set of a run onto its device, with a progress bar; whitened where it is used so."""
        whitening, device = whitening_of(ctx), ctx.machine.device
        with ctx.progress("reading images", len(ctx.dataset.train)) as advance:
            return cls(ctx.dataset, normalisation=normalisation, whitening=whitening, device=device, progress=advance)

    def __init__(
        self,
        dataset: Dataset,
        *,
        normalisation: str = "dataset",
        whitening: Whitening | None = None,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.mean, self.std = constants(dataset, normalisation if whitening is None else ZCA)
        self._scaled = normalise(self.mean, self.std)
        batches = dataset.train.images.batches(dataset.image_size, progress=progress)
        # [N, S, S, C]: batches come out channels-last
        arrays = batches if whitening is None else map(whitening.whiten, batches)
        self._images = torch.cat([torch.from_numpy(batch).to(device) for batch in arrays])
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
        chosen = self._images[moved(positions, self._images.device)].permute(0, 3, 1, 2)
        return self._scaled(as_float(chosen), self._unused)

    def plain(self, images: Tensor) -> Tensor:
        """Return normalised images [n, C, S, S] in the [0, 1] scale."""
        mean, std = (torch.tensor(values, device=self.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return images * std + mean

    def draw(self, label: int, count: int, generator: Generator) -> Tensor:
        """Draw ``count`` images of a class without replacement; all of them where the class has fewer."""
        return self.draw_each([label], count, [generator])[0]

    def draw_each(self, labels: Sequence[int], count: int, generators: Sequence[Generator]) -> list[Tensor]:
        """Draw ``count`` images of each of several classes, each by its own generator, and fetch them at once."""
        pairs = zip(labels, generators, strict=True)
        return self.each_at([self.choose(label, count, generator) for label, generator in pairs])

    def choose(self, label: int, count: int, generator: Generator) -> Tensor:
        """Draw positions in the training split, as :meth:`draw` does."""
        members = self._members[label]
        return members[torch.randperm(len(members), generator=generator)[:count]]

    def each_at(self, positions: Sequence[Tensor]) -> list[Tensor]:
        """Return the images at each of several lists of positions."""
        if self.device.type == "cpu":  # a class at a time stays in its caches
            return [self.at(part) for part in positions]
        return list(self.at(torch.cat([*positions])).split([*map(len, positions)]))


def initial_images(real: RealImages, ipc: int, init: Init, seed: int) -> Tensor:
    """Return float32 [K·ipc, C, S, S], class by class, normalised: N(0, 1), or random training images of the class."""
    if init == "noise":
        return torch.randn((real.classes * ipc, *real.shape), generator=make_generator(seed)).to(real.device)
    return torch.cat([real.draw(label, ipc, make_generator(seed, label + 1)) for label in range(real.classes)])


class SyntheticImages:
    """Images [K·ipc, C, S, S], class by class, with the SGD that changes them. Nothing is ever clamped."""

    def __init__(self, images: Tensor, ipc: int, lr: float, momentum: float = MOMENTUM) -> None:
        self.images = images.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.ipc = ipc
        self.labels = torch.arange(len(images) // ipc, device=images.device).repeat_interleave(ipc)
        self.optimiser = torch.optim.SGD([self.images], lr, momentum=momentum)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.images) // self.ipc

    def of_class(self, label: int | Tensor) -> Tensor:
        """Return the images [ipc, C, S, S] of a class, which may be a tensor; gradients flow back into the whole."""
        if isinstance(label, torch.Tensor):
            return self.images.unflatten(0, (-1, self.ipc)).index_select(0, label.reshape(1)).squeeze(0)
        return self.images[label * self.ipc : (label + 1) * self.ipc]

    def zero_grad(self) -> None:
        """Forget the gradient; on a GPU its memory stays, so that graphs can add to it."""
        self.optimiser.zero_grad(set_to_none=not self.images.is_cuda)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"images": self.images.detach().cpu(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        with torch.no_grad():
            self.images.copy_(state["images"])
        self.optimiser.load_state_dict(state["optimiser"])

    @property
    def shown(self) -> Tensor:
        """The images that are the result."""
        return self.images.detach()

    def distilled(self, space: str = "normalized", **fields: Any) -> DistilledSet:
        """Return the images as they are now, with the space they are in; ``fields`` are further ones of the set."""
        pixels = finite(self.shown).cpu().permute(0, 2, 3, 1).contiguous().numpy()
        pixels = pixels.astype(np.float32, copy=True)
        return DistilledSet(pixels, self.labels.cpu().numpy().astype(np.int64), space=space, **fields)
