"""Recovering images from a teacher: cross-entropy plus the distance to its batch-norm statistics.

Yin et al. 2023 (recover/data_synthesis.py, recover/utils.py, recover_cifar.py). What its successors do otherwise is a
setting, or what a :class:`Batch` begins with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from ddbench_plugins.methods.sre2l.adjust import AdjustedWeights
from ddbench_plugins.methods.sre2l.crops import SMALLEST, Curriculum, smallest_area
from ddbench_plugins.methods.sre2l.statistics import Matching, Statistics, densification
from ddbench_plugins.training.augment import draw_resized_crops, normalise, resized_crop, shift_with_zeros
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.predict import as_float
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

BETAS = (0.5, 0.9)


@dataclass(frozen=True, kw_only=True)
class Recovery(Matching):
    """How images are recovered; see the options of the methods. The defaults are what SRe2L does."""

    iterations: int
    lr: float
    bn_weight: float
    jitter: tuple[int, int]
    crop: bool
    flip: bool
    tv_weight: float
    l2_weight: float
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    curriculum: Curriculum = "cosine"
    milestone: float = 0.0
    smallest_crop: float = SMALLEST
    padding: int = 0
    density_weight: float = 0.0
    density_temperature: float = 4.0
    adjustments: int = 0
    radius: float = 0.0
    add_adjustments: bool = False
    add_gradients: bool = False
    shared_steps: bool = False


@dataclass(frozen=True)
class Batch:
    """Images that are recovered together, and so share batch statistics.

    Attributes:
        labels: [n].
        images: what they begin as, [n, C, S, S], uint8 or float in [0, 1]; noise when None.
        starts: the iteration that is the first to change each image, [n], ascending; all the first when None.
        part: batches of one part, one after the other, may share an adjusted teacher.
    """

    labels: Tensor
    images: Tensor | None = None
    starts: Tensor | None = None
    part: int = 0

    def groups(self) -> tuple[list[int], list[int]]:
        """Return the sizes of the groups that start together, and their first iterations, of which one is 0."""
        if self.starts is None:
            return [len(self.labels)], [0]
        starts, sizes = (self.starts - self.starts.min()).unique_consecutive(return_counts=True)
        return sizes.tolist(), starts.tolist()

    def iterations(self, whole: int) -> int:
        """Return how many of ``whole`` iterations change any of the images."""
        return whole - (0 if self.starts is None else int(self.starts.min()))


@dataclass
class Recovered:
    """Images in [0, 1], [N, C, S, S], and the last loss terms of each batch."""

    images: Tensor
    losses: list[dict[str, float]] = field(default_factory=list)


def recover(
    networks: Sequence[nn.Module],
    batches: Sequence[Batch],
    settings: Recovery,
    *,
    seed: int,
    real: Sequence[dict[str, Tensor]] = (),
    loop: Loop | None = None,
) -> Recovered:
    """Recover one image for each label, batch by batch; a resumed run ends with the same images.

    Args:
        networks: the teachers, one after the other in each iteration, in evaluation mode and frozen; the weights of
            the first may be adjusted, and are put back.
        batches: what is recovered together.
        settings: the loss and its optimisation.
        seed: of the noise the images start from, and of jitter and crops.
        real: for each teacher the statistics of real images in its layers, where they are compared.
        loop: how it is run.

    Raises:
        DivergedError: the loss is not finite.
    """
    loop = loop or Loop()
    each = zip(networks, real or [{}] * len(networks), strict=True)
    statistics = [Statistics(network, settings, known) for network, known in each]
    adjusted = AdjustedWeights(networks[0], settings.adjustments, settings.radius) if settings.adjustments else None
    work = _Recovering(networks, batches, settings, seed, statistics, adjusted, loop)
    try:
        hint = "Lower the learning rate (-o method.lr=…)"
        steps = sum(batch.iterations(settings.iterations) for batch in batches)
        loop.run(work, steps, name="the recovery", hint=hint)
    finally:
        for hooked in statistics:
            hooked.remove()
        if adjusted:
            adjusted.reset()
    return work.recovered


class _Recovering:
    """The work of all batches, one after the other."""

    def __init__(
        self,
        networks: Sequence[nn.Module],
        batches: Sequence[Batch],
        settings: Recovery,
        seed: int,
        statistics: Sequence[Statistics],
        adjusted: AdjustedWeights | None,
        loop: Loop,
    ) -> None:
        self.networks, self.batches, self.settings, self.seed = networks, batches, settings, seed
        self.statistics, self.adjusted, self.loop = statistics, adjusted, loop
        self.recovered = Recovered(torch.empty(0, settings.channels, settings.size, settings.size))
        self.chunk: _Chunk | None = None

    def step(self, number: int) -> dict[str, float]:
        """Make one iteration; its terms are read only now and then, for that waits for the device."""
        chunk = self.chunk = self.chunk or self._begun()
        if self.adjusted and not chunk.iteration:
            self._adjust(chunk, self.adjusted)
        parts = chunk.step(self._loss)
        last = chunk.iteration == chunk.iterations
        if not last and chunk.iteration % 10:
            return {}
        terms = {name: round(float(part.detach()), 5) for name, part in parts.items()}
        if last:
            images = torch.cat([self.recovered.images, chunk.images()])
            self.recovered, self.chunk = Recovered(images, [*self.recovered.losses, terms]), None
        if self.settings.crop and self.settings.milestone:
            terms = {**terms, "crop": round((chunk.smallest_crop() + 1) / 2, 4)}  # mean area
        return terms

    def _loss(self, view: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.chunk
        turn = self.chunk.iteration % len(self.networks)
        self.statistics[turn].begin(labels, self.chunk.generator("hooks"))
        return _loss(self.networks[turn], self.statistics[turn], view, labels, self.settings, self.loop)

    def _adjust(self, chunk: _Chunk, adjusted: AdjustedWeights) -> None:
        """Adjust the teacher to the images with which a batch begins."""
        number, settings = len(self.recovered.losses), self.settings
        if not (settings.add_adjustments and number and self.batches[number - 1].part == self.batches[number].part):
            adjusted.reset()

        def cross_entropy() -> Tensor:
            view, labels = chunk.view()
            return self._loss(view, labels)[1]["ce"]

        gradients = adjusted.climb(cross_entropy, chunk.active())
        if settings.add_gradients:
            chunk.left = gradients

    def _begun(self) -> _Chunk:
        place = len(self.recovered.losses)
        for each in self.statistics:
            each.forget()
        return _Chunk(self.batches[place], self.settings, self.seed, place, self.loop.device)

    def state(self) -> dict[str, Any]:
        """Return the finished images, the state of the batch that is not, and weights that were adjusted."""
        weights, averages = self.adjusted and self.adjusted.state(), [each.averages for each in self.statistics]
        chunk = self.chunk and self.chunk.state()
        return {**vars(self.recovered), "chunk": chunk, "weights": weights, "averages": averages}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.recovered = Recovered(state["images"], state["losses"])
        if self.adjusted:
            self.adjusted.restore(state["weights"])
        if state["chunk"]:
            self.chunk = self._begun()
            self.chunk.restore(state["chunk"])
        for each, averages in zip(self.statistics, state.get("averages", ()), strict=False):
            each.averages = {name: average.to(self.loop.device) for name, average in averages.items()}


class _Chunk:
    """A batch at work: its images in groups that start together, and their optimiser."""

    def __init__(self, batch: Batch, settings: Recovery, seed: int, number: int, device: str) -> None:
        self.labels, self.settings, self.seed = batch.labels.to(device), settings, (seed, number)
        self.iteration, self.iterations = 0, batch.iterations(settings.iterations)
        scale, shape = normalise(settings.mean, settings.std), (settings.channels, settings.size, settings.size)
        unused, black = torch.Generator(), torch.zeros(1, settings.channels, 1, 1)
        self.low, self.high = (scale(black + shade, unused).to(device) for shade in (0, 1))
        if batch.images is None:
            images = torch.randn((len(batch.labels), *shape), generator=make_generator(*self.seed))
        else:
            images = scale(as_float(batch.images), unused)
        sizes, self.starts = batch.groups()
        self.groups = [part.to(device, copy=True).requires_grad_() for part in images.split(sizes)]
        self.left: list[Tensor] = []
        self.optimiser = torch.optim.Adam(self.groups, lr=settings.lr, betas=BETAS, eps=1e-8)

    def active(self) -> list[Tensor]:
        """Return the groups that have started."""
        return [group for group, start in zip(self.groups, self.starts, strict=True) if start <= self.iteration]

    def view(self) -> tuple[Tensor, Tensor]:
        """Return the active images as the teacher sees them in this iteration, and their labels."""
        x = torch.cat(self.active())
        return _view(x, self.settings, self.smallest_crop(), self.generator()), self.labels[: len(x)]

    def generator(self, *use: str) -> Generator:
        """Return the random numbers of this iteration, for one use."""
        return make_generator(*self.seed, self.iteration + 1, *use)

    def smallest_crop(self) -> float:
        """Return the smallest area of a crop in this iteration."""
        settings, done = self.settings, self.iteration / self.iterations
        return smallest_area(settings.curriculum, done, settings.milestone, settings.smallest_crop)

    def step(self, loss_of: Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
        """Make one step of Adam and return the terms of the loss."""
        settings, active = self.settings, self.active()
        done = math.pi * self.iteration / self.iterations
        self.optimiser.param_groups[0]["lr"] = settings.lr * 0.5 * (1 + math.cos(done))
        loss, parts = loss_of(*self.view())
        self.optimiser.zero_grad()
        loss.backward()
        for group, gradient in zip(active, self.left, strict=False):
            group.grad += gradient
        if settings.shared_steps:  # those that wait do not move, but their steps count
            for group in self.groups[len(active) :]:
                group.grad = torch.zeros_like(group)
        self.optimiser.step()
        with torch.no_grad():
            for group in active:
                group.copy_(torch.maximum(torch.minimum(group, self.high), self.low))
        self.left = []
        self.iteration += 1
        return parts

    def state(self) -> dict[str, object]:
        """Return what a checkpoint needs."""
        images = torch.cat(self.groups).detach().cpu()
        return {"images": images, "iteration": self.iteration, "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        with torch.no_grad():
            for group, images in zip(self.groups, state["images"].split([*map(len, self.groups)]), strict=True):
                group.copy_(images)
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration = state["iteration"]

    def images(self) -> Tensor:
        """Return the images in [0, 1], on the CPU."""
        shape = (1, -1, 1, 1)
        std, mean = (torch.tensor(values).view(shape) for values in (self.settings.std, self.settings.mean))
        return torch.cat(self.groups).detach().cpu() * std + mean


def _loss(
    network: nn.Module,
    statistics: Statistics,
    view: Tensor,
    labels: Tensor,
    settings: Recovery,
    loop: Loop,
) -> tuple[Tensor, dict[str, Tensor]]:
    with loop.autocast():
        logits = network(view.contiguous(memory_format=torch.channels_last)).float()
    parts = {"ce": F.cross_entropy(logits, labels), "bn": statistics.loss()}
    loss = parts["ce"] + settings.bn_weight * parts["bn"]
    if settings.tv_weight:
        parts["tv"] = total_variation(view)
        loss = loss + settings.tv_weight * parts["tv"]
    if settings.l2_weight:
        parts["l2"] = view.flatten(1).norm(dim=1).mean()
        loss = loss + settings.l2_weight * parts["l2"]
    if settings.density_weight:
        parts["density"] = densification(view, labels, settings.density_temperature)
        loss = loss + settings.density_weight * parts["density"]
    return loss, parts


def _view(x: Tensor, settings: Recovery, smallest: float, generator: Generator) -> Tensor:
    """Crop and flip, one draw for the whole batch, then roll; what is rolled out comes in on the other side."""
    if settings.crop:
        box = draw_resized_crops(1, x.shape[2], x.shape[3], generator, (smallest, 1.0), (3 / 4, 4 / 3))
        top, left, height, width = (side.expand(len(x)) for side in box)
        x = resized_crop(x, top, left, height, width, settings.size)
    if settings.padding:
        rows, columns = torch.randint(-settings.padding, settings.padding + 1, (2, 1), generator=generator)
        x = shift_with_zeros(x, rows, columns)
    if settings.flip and float(torch.rand((), generator=generator)) < 0.5:
        x = x.flip(3)
    low, high = settings.jitter
    if high > 0:
        rows, columns = torch.randint(low, high + 1, (2,), generator=generator).tolist()
        x = x.roll((rows, columns), dims=(2, 3))
    return x


def total_variation(x: Tensor) -> Tensor:
    """Sum of the norms of the four difference images: horizontal, vertical and both diagonals."""
    differences = (
        x[:, :, :, :-1] - x[:, :, :, 1:],
        x[:, :, :-1, :] - x[:, :, 1:, :],
        x[:, :, 1:, :-1] - x[:, :, :-1, 1:],
        x[:, :, :-1, :-1] - x[:, :, 1:, 1:],
    )
    return torch.stack([difference.norm() for difference in differences]).sum()
