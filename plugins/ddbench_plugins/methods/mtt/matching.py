"""Matching trajectories: training on the synthetic images is to end where an expert is some epochs later."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

import ddbench
from ddbench_plugins.matching.images import MOMENTUM, SyntheticImages
from ddbench_plugins.methods.mtt.replayed import ReplayedMatching
from ddbench_plugins.methods.mtt.trajectories import match
from ddbench_plugins.training.dsa import apply, draw_dc
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench_plugins.methods.mtt.experts import Experts
    from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, Gradient, InnerLoss
    from ddbench_plugins.training.dsa import Drawn, Operator

#: Where a learning rate that must stay positive is stopped.
SMALLEST_RATE = 1e-6
_ORDER, _START, _STEPS = 1, 2, 3


class ImagesWithRate(SyntheticImages):
    """Normalised images with the learning rate of the student, both optimised; ``mean`` and ``std`` undo the former."""

    def __init__(
        self,
        images: Tensor,
        ipc: int,
        lr: float,
        *,
        rate: float,
        lr_rate: float,
        positive: bool,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(images, ipc, lr)
        self.rate = torch.tensor(rate, device=images.device, requires_grad=True)
        self.rate_optimiser = torch.optim.SGD([self.rate], lr_rate, momentum=MOMENTUM)
        self.positive, self.mean, self.std = positive, mean, std

    def learned(self) -> tuple[Tensor, ...]:
        """Return what inner losses depend on: the images [N, C, S, S]."""
        return (self.images.detach(),)

    def targets(self, chosen: Tensor, *others: Tensor) -> Tensor:
        """Return the labels [B] or [B, K] of chosen images; ``others`` is what is learned besides the images."""
        return self.labels[chosen]

    def update(self, gradients: Sequence[Tensor], by_rate: Tensor) -> None:
        """Make a step of all optimisers with the gradients of what is learned, and of the rate."""
        self.images.grad, self.rate.grad = gradients[0], by_rate
        self.optimiser.step()
        self.rate_optimiser.step()
        if self.positive:
            with torch.no_grad():
                self.rate.clamp_(min=SMALLEST_RATE)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"rate": self.rate.detach().cpu(), "rate_optimiser": self.rate_optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            self.rate.copy_(state["rate"])
        self.rate_optimiser.load_state_dict(state["rate_optimiser"])

    def distilled(self, space: str = "unit", **fields: Any) -> ddbench.DistilledSet:
        """Return the images in the [0, 1] scale, which they may leave, with the learning rate.

        Raises:
            UsageError: an unconstrained learning rate is not positive.
        """
        rate = float(self.rate.detach())
        if rate <= 0:
            raise ddbench.UsageError(
                f"The learned learning rate is {rate:.3g}: no student can train with it.",
                hint="Keep it positive (-o method.positive_lr=true), or lower method.lr_lr.",
            )
        normalised = super().distilled(space, learning_rate=rate, **fields)
        std, mean = (torch.tensor(values).numpy() for values in (self.std, self.mean))
        return replace(normalised, images=normalised.images * std + mean)


class AveragedImages(ImagesWithRate):
    """Such images whose result is their average over steps, in which what was before has weight ``decay``."""

    def __init__(self, *settings: Any, decay: float, **rate: Any) -> None:
        super().__init__(*settings, **rate)
        self.decay, self.averaged = decay, self.images.detach().clone()

    def update(self, gradients: Sequence[Tensor], by_rate: Tensor) -> None:
        """Make a step of all optimisers, and average."""
        super().update(gradients, by_rate)
        self.averaged.mul_(self.decay).add_(self.images.detach(), alpha=1 - self.decay)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"averaged": self.averaged.cpu()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        self.averaged.copy_(state["averaged"])

    @property
    def shown(self) -> Tensor:
        """The average."""
        return self.averaged


@dataclass(frozen=True)
class Window:
    """Start epochs of segments: from ``first`` on, before a bound that grows from ``opening`` to ``end``."""

    first: int
    opening: int
    end: int
    iterations: int
    """Until the bound is at its end; 0: at once."""

    def bound(self, number: int) -> int:
        """Return the epoch before which the segment of step ``number`` starts."""
        grown = number / self.iterations if number < self.iterations else 1.0
        return self.opening + int((self.end - self.opening) * grown)


@dataclass(frozen=True)
class Matching:
    """How one step is made; see the options of the method. An empty strategy means no augmentation."""

    syn_steps: int
    expert_epochs: int
    window: Window
    batch_syn: int
    strategy: tuple[Operator, ...]
    seed: int
    gradient: Gradient = "unrolled"
    threshold: float = math.inf
    """Loss above which nothing is changed."""


class TrajectoryMatching:
    """One step: a segment of one expert, the same way on synthetic images, a step of images and learning rate."""

    def __init__(self, images: ImagesWithRate, experts: Experts, network: FlatNetwork, settings: Matching) -> None:
        self.images, self.experts, self.network, self.settings = images, experts, network, settings
        rate, learned = images.rate.detach(), images.learned()
        self._replayed = ReplayedMatching(self._loss, learned, rate, settings.gradient) if rate.is_cuda else None

    def step(self, number: int) -> Tensor:
        """Match the segment of step ``number`` and return the loss; where that is too large, nothing changes."""
        expert, epoch = self.segment(number)
        start, end = (self.experts.at(expert, each) for each in (epoch, epoch + self.settings.expert_epochs))
        if self._replayed:
            matched = self._replayed(self._draw_steps(number), start, end)
        else:
            learned, rate = self.images.learned(), self.images.rate.detach()
            matched = match(self.inner_losses(number), start, end, learned, rate, gradient=self.settings.gradient)
        threshold = self.settings.threshold
        # A loss that is not finite is not larger, so that it is told.
        if math.isinf(threshold) or not matched.loss > threshold:
            self.images.update(matched.learned, matched.lr)
        return matched.loss

    def segment(self, number: int) -> tuple[int, int]:
        """Return the expert and its first epoch: experts in random order, each once before any comes again."""
        settings = self.settings
        turn, place = divmod(number, len(self.experts))
        order = torch.randperm(len(self.experts), generator=make_generator(settings.seed, _ORDER, turn + 1))
        generator = make_generator(settings.seed, _START, number + 1)
        window = settings.window
        return int(order[place]), int(torch.randint(window.first, window.bound(number), (), generator=generator))

    def inner_losses(self, number: int) -> list[InnerLoss]:
        """Draw the batches and augmentations of all inner steps."""
        steps = moved(self._draw_steps(number), self.images.images.device)
        return [lambda *learned, drawn=drawn: self._loss(*learned, *drawn) for drawn in steps]

    def _draw_steps(self, number: int) -> list[tuple[Tensor, Sequence[Drawn]]]:
        settings, images = self.settings, self.images.images
        generator = make_generator(settings.seed, _STEPS, number + 1)
        chunks: list[Tensor] = []
        steps: list[tuple[Tensor, Sequence[Drawn]]] = []
        for _ in range(settings.syn_steps):
            if not chunks:
                chunks = list(torch.randperm(len(images), generator=generator).split(settings.batch_syn))
            chosen = chunks.pop()
            draws = bool(settings.strategy)
            drawn = draw_dc(len(chosen), images.shape[-1], generator, settings.strategy) if draws else ()
            steps.append((chosen, drawn))
        return steps

    def _loss(self, parameters: Tensor, images: Tensor, *given: Any) -> Tensor:
        *others, chosen, drawn = given
        return self.network.loss(parameters, apply(images[chosen], drawn), self.images.targets(chosen, *others))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs: images and learning rate; all else comes from the step's number."""
        return self.images.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.images.restore(state)
