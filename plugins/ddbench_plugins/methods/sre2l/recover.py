"""Recovering images from a teacher: cross-entropy plus the distance to its batch-norm statistics.

Yin et al. 2023 (recover/data_synthesis.py, recover/utils.py, recover_cifar.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from ddbench_plugins.training.augment import draw_resized_crops, normalise, resized_crop
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

BETAS = (0.5, 0.9)


@dataclass(frozen=True)
class Recovery:
    """How one chunk of images is recovered; see the options of the method."""

    iterations: int
    lr: float
    bn_weight: float
    first_bn: float
    jitter: tuple[int, int]
    crop: bool
    flip: bool
    tv_weight: float
    l2_weight: float
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass
class Recovered:
    """Images in [0, 1], [N, C, S, S], and the last loss terms of each chunk."""

    images: Tensor
    losses: list[dict[str, float]] = field(default_factory=list)


class Statistics:
    """The statistics of every batch norm's input in a forward pass, compared with its running ones."""

    def __init__(self, network: nn.Module, first_weight: float) -> None:
        self.norms = batch_norms(network)
        self.weights = [first_weight, *[1.0] * (len(self.norms) - 1)]
        self.distances: list[Tensor] = []
        self.hooks = [norm.register_forward_pre_hook(self._compare) for norm in self.norms]

    def _compare(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].float()
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        # Plain norms over the channels, not squared.
        self.distances.append((norm.running_var - variance).norm(2) + (norm.running_mean - mean).norm(2))

    def loss(self) -> Tensor:
        """Return the weighted sum over the layers of the last forward pass."""
        total = sum(w * d for w, d in zip(self.weights, self.distances, strict=True))
        self.distances = []
        return torch.as_tensor(total)

    def remove(self) -> None:
        """Leave the network as it was."""
        for hook in self.hooks:
            hook.remove()


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Return the network's two-dimensional batch norms in order."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def recover(
    network: nn.Module, chunks: Sequence[Tensor], settings: Recovery, *, seed: int, loop: Loop | None = None
) -> Recovered:
    """Recover one image for each label, chunk by chunk; a resumed run ends with the same images.

    Args:
        network: the teacher, in evaluation mode and frozen.
        chunks: labels [n] of the images that are recovered together.
        settings: the loss and its optimisation.
        seed: of the noise the images start from, and of jitter and crops.
        loop: how it is run.

    Raises:
        DivergedError: the loss is not finite.
    """
    loop = loop or Loop()
    statistics = Statistics(network, settings.first_bn)
    work = _Recovering(network, chunks, settings, seed, statistics, loop)
    try:
        hint = "Lower the learning rate (-o method.lr=…)"
        loop.run(work, len(chunks) * settings.iterations, name="the recovery", hint=hint)
    finally:
        statistics.remove()
    return work.recovered


class _Recovering:
    """The work of all chunks, one after the other."""

    def __init__(
        self,
        network: nn.Module,
        chunks: Sequence[Tensor],
        settings: Recovery,
        seed: int,
        statistics: Statistics,
        loop: Loop,
    ) -> None:
        self.network, self.chunks, self.settings, self.seed = network, chunks, settings, seed
        self.statistics, self.loop = statistics, loop
        self.recovered = Recovered(torch.empty(0, settings.channels, settings.size, settings.size))
        self.chunk: _Chunk | None = None

    def step(self, number: int) -> dict[str, float]:
        """Make one iteration; its terms are read only now and then, for that waits for the device."""
        chunk = self.chunk = self.chunk or self._begun(number)
        parts = chunk.step(self.network, self.statistics, self.loop)
        last = chunk.iteration == self.settings.iterations
        if not last and chunk.iteration % 10:
            return {}
        terms = {name: round(float(part.detach()), 5) for name, part in parts.items()}
        if last:
            images = torch.cat([self.recovered.images, chunk.images()])
            self.recovered, self.chunk = Recovered(images, [*self.recovered.losses, terms]), None
        return terms

    def _begun(self, number: int) -> _Chunk:
        place = number // self.settings.iterations
        return _Chunk(self.chunks[place].to(self.loop.device), self.settings, self.seed, place)

    def state(self) -> dict[str, Any]:
        """Return the finished images, and the state of the chunk that is not."""
        return {**vars(self.recovered), "chunk": self.chunk and self.chunk.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.recovered = Recovered(state["images"], state["losses"])
        if state["chunk"]:
            self.chunk = self._begun(state["done"])
            self.chunk.restore(state["chunk"])


class _Chunk:
    """Images recovered together, with their optimiser."""

    def __init__(self, labels: Tensor, settings: Recovery, seed: int, number: int) -> None:
        self.labels, self.settings, self.seed = labels, settings, (seed, number)
        shape = (len(labels), settings.channels, settings.size, settings.size)
        self.x = torch.randn(shape, generator=make_generator(*self.seed)).to(labels.device).requires_grad_()
        self.optimiser = torch.optim.Adam([self.x], lr=settings.lr, betas=BETAS, eps=1e-8)
        self.iteration = 0
        scale, black = normalise(settings.mean, settings.std), torch.zeros(1, settings.channels, 1, 1)
        self.low, self.high = (scale(black + shade, torch.Generator()).to(labels.device) for shade in (0, 1))

    def step(self, network: nn.Module, statistics: Statistics, loop: Loop) -> dict[str, Tensor]:
        """Make one step of Adam and return the terms of the loss."""
        done = math.pi * self.iteration / self.settings.iterations
        self.optimiser.param_groups[0]["lr"] = self.settings.lr * 0.5 * (1 + math.cos(done))
        generator = make_generator(*self.seed, self.iteration + 1)
        loss, parts = _loss(network, statistics, self.x, self.labels, self.settings, generator, loop)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            self.x.copy_(torch.maximum(torch.minimum(self.x, self.high), self.low))
        self.iteration += 1
        return parts

    def state(self) -> dict[str, object]:
        """Return what a checkpoint needs."""
        images = self.x.detach().cpu()
        return {"images": images, "iteration": self.iteration, "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        with torch.no_grad():
            self.x.copy_(state["images"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration = state["iteration"]

    def images(self) -> Tensor:
        """Return the images in [0, 1], on the CPU."""
        shape = (1, -1, 1, 1)
        std, mean = (torch.tensor(values).view(shape) for values in (self.settings.std, self.settings.mean))
        return self.x.detach().cpu() * std + mean


def _loss(
    network: nn.Module,
    statistics: Statistics,
    x: Tensor,
    labels: Tensor,
    settings: Recovery,
    generator: Generator,
    loop: Loop,
) -> tuple[Tensor, dict[str, Tensor]]:
    view = _view(x, settings, generator)
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
    return loss, parts


def _view(x: Tensor, settings: Recovery, generator: Generator) -> Tensor:
    """Crop and flip, one draw for the whole batch, then roll; what is rolled out comes in on the other side."""
    if settings.crop:
        box = draw_resized_crops(1, x.shape[2], x.shape[3], generator, (0.08, 1.0), (3 / 4, 4 / 3))
        top, left, height, width = (side.expand(len(x)) for side in box)
        x = resized_crop(x, top, left, height, width, settings.size)
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
