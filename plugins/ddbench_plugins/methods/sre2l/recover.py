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

from ddbench import DivergedError
from ddbench_plugins.training.augment import draw_resized_crops, normalise, resized_crop
from ddbench_plugins.training.memory import keep_freed_memory
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.saving import Saving
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from ddbench_plugins.training.saving import Checkpoint

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
    network: nn.Module,
    chunks: Sequence[Tensor],
    settings: Recovery,
    *,
    seed: int,
    precision: str = "fp32",
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> Recovered:
    """Recover one image for each label, chunk by chunk; a resumed run ends with the same images.

    Args:
        network: the teacher, in evaluation mode and frozen.
        chunks: labels [n] of the images that are recovered together.
        settings: the loss and its optimisation.
        seed: of the noise the images start from, and of jitter and crops.
        precision, device: of the forward passes.
        checkpoint, checkpoint_seconds: where and how often the state is kept.
        progress: gets iterations done, iterations in all, the loss in words.

    Raises:
        DivergedError: the loss is not finite.
    """
    keep_freed_memory()
    state = (checkpoint.load() if checkpoint else None) or {"chunk": 0}
    done = Recovered(torch.empty(0, settings.channels, settings.size, settings.size))
    if state["chunk"] or "images" in state:
        done = Recovered(state["done"], state["losses"])
    total, saving = len(chunks) * settings.iterations, Saving(checkpoint, checkpoint_seconds)
    statistics = Statistics(network, settings.first_bn)
    try:
        for number in range(state["chunk"], len(chunks)):
            chunk = _Chunk(chunks[number].to(device), settings, seed, number)
            if number == state["chunk"] and "images" in state:
                chunk.restore(state)
            terms: dict[str, float] = {}
            while chunk.iteration < settings.iterations:
                parts = chunk.step(network, statistics, precision)
                if chunk.iteration % 10 == 0 or chunk.iteration == settings.iterations:
                    terms = {name: round(float(part.detach()), 5) for name, part in parts.items()}
                    if not all(map(math.isfinite, terms.values())):
                        raise DivergedError(
                            f"The recovery loss is not finite: {terms}.",
                            hint="Lower the learning rate (-o method.lr=…), or try --precision fp32.",
                        )
                    text = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
                    progress(number * settings.iterations + chunk.iteration, total, text)
                if chunk.iteration < settings.iterations and saving.due():
                    saving.save(chunk.state() | {"chunk": number, "done": done.images, "losses": done.losses})
            done = Recovered(torch.cat([done.images, chunk.images()]), [*done.losses, terms])
            if number + 1 < len(chunks):
                saving.save({"chunk": number + 1, "done": done.images, "losses": done.losses})
    finally:
        statistics.remove()
    return done


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

    def step(self, network: nn.Module, statistics: Statistics, precision: str) -> dict[str, Tensor]:
        """Make one step of Adam and return the terms of the loss."""
        done = math.pi * self.iteration / self.settings.iterations
        self.optimiser.param_groups[0]["lr"] = self.settings.lr * 0.5 * (1 + math.cos(done))
        generator = make_generator(*self.seed, self.iteration + 1)
        loss, parts = _loss(network, statistics, self.x, self.labels, self.settings, generator, precision)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            self.x.copy_(torch.maximum(torch.minimum(self.x, self.high), self.low))
        self.iteration += 1
        return parts

    def state(self) -> dict[str, object]:
        """Return what a checkpoint needs to go on here."""
        images = self.x.detach().cpu()
        return {"images": images, "iteration": self.iteration, "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
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
    precision: str,
) -> tuple[Tensor, dict[str, Tensor]]:
    view = _view(x, settings, generator)
    with autocast(precision, x.device):  # type: ignore[arg-type]
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
        x = resized_crop(x, *(side.expand(len(x)) for side in box), settings.size)
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
