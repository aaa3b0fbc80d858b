"""Matching the trajectories of both branches: a few steps on synthetic pairs are to end where an expert gets.

Wu et al. 2023 (distill.py) and Xu et al. 2024 (distill_tesla_lors.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

import ddbench
from ddbench_plugins.matching.images import MOMENTUM, SyntheticImages
from ddbench_plugins.methods.mvl.experts import parameters
from ddbench_plugins.pairs.branches import cosines, kept
from ddbench_plugins.pairs.losses import LOSSES
from ddbench_plugins.training.seeding import make_generator, stream_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ddbench_plugins.pairs.branches import Flat

_START, _STEPS = 1, 2


class Rank(NamedTuple):
    """A learned similarity diag(a) + α/r · L Rᵀ."""

    diagonal: Tensor
    left: Tensor
    right: Tensor
    alpha: float

    @classmethod
    def begun(cls, count: int, rank: int, alpha: float, seed: int, device: Any) -> Rank:
        """Return the identity: a of ones, L of N(0, 1), R of zeros, of which R and a get gradients at first."""
        left = torch.randn(count, rank, generator=make_generator(seed))
        a, left, right = (
            part.to(device).requires_grad_() for part in (torch.ones(count), left, torch.zeros(count, rank))
        )
        return cls(a, left, right, alpha)

    def of(self, rows: Tensor) -> Tensor:
        """Return the similarity [n, n] of some pairs."""
        factor = self.alpha / self.left.shape[1]
        return self.diagonal[rows].diag() + factor * self.left[rows] @ self.right[rows].T


@dataclass(frozen=True)
class Rates:
    """Learning rates of what is optimised, and what the rates of the branches begin as and end at."""

    images: float
    texts: float
    rates: float
    similarity: float
    begin: float
    smallest: float


class SyntheticPairs(SyntheticImages):
    """Normalised images with text vectors, the rates of both branches, and a similarity where one is learned."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        texts: Tensor,
        rates: Rates,
        similarity: Rank | None,
        told: Callable[[SyntheticPairs], dict[str, Any]],
    ) -> None:
        super().__init__(images, 1, rates.images)
        self.labels, self.told, self.smallest = labels, told, rates.smallest
        self.texts = texts.detach().clone().requires_grad_()
        self.rates = torch.full((2,), rates.begin, device=images.device, requires_grad=True)
        self.similarity = similarity
        learned: list[dict[str, Any]] = [
            {"params": [self.images]},
            {"params": [self.texts], "lr": rates.texts},
            {"params": [self.rates], "lr": rates.rates},
        ]
        if similarity is not None:
            learned.append({"params": list(similarity[:3]), "lr": rates.similarity})
        self.optimiser = torch.optim.SGD(learned, rates.images, momentum=MOMENTUM)

    def update(self) -> None:
        """Make a step with the gradients that are there.

        Raises:
            DivergedError: a rate without a smallest one is not positive any more.
        """
        self.optimiser.step()
        if self.smallest:
            with torch.no_grad():
                self.rates.clamp_(min=self.smallest)
        elif float(self.rates.detach().min()) <= 0:
            raise ddbench.DivergedError(
                f"The learned rates are {self.rates.detach().tolist()}: a branch cannot be trained with them.",
                hint="Lower method.lr_lr, or stop them (-o method.min_rate=0.001).",
            )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"learned": [part.detach().cpu() for part in self._besides()]}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            for part, value in zip(self._besides(), state["learned"], strict=True):
                part.copy_(value)

    def distilled(self, space: str = "normalized", **fields: Any) -> ddbench.DistilledSet:
        """Return the pairs as they are now."""
        return super().distilled(space, **self.told(self), **fields)

    def _besides(self) -> list[Tensor]:
        return [self.texts, self.rates, *(self.similarity[:3] if self.similarity else ())]


@dataclass(frozen=True)
class Settings:
    """How one step is made; see the options of the method."""

    syn_steps: int
    expert_epochs: int
    max_start_epoch: int
    batch_syn: int
    inner_loss: str
    inner_scale: float
    inner_dropout: bool
    gradient: Literal["unrolled", "tesla"]
    merge: bool
    mix: float
    anew: bool
    seed: int


class Plan(NamedTuple):
    """What is drawn for one inner step: its pairs, factors of dropout of both branches, and how pairs are mixed."""

    rows: Tensor
    keep: tuple[Tensor | None, Tensor | None]
    mixed: tuple[float, Tensor] | None


class PairMatching:
    """One step: a segment of one expert, the same way on synthetic pairs, a step of all that is learned."""

    def __init__(
        self,
        pairs: SyntheticPairs,
        experts: Sequence[Path],
        branches: tuple[Flat, Flat],
        inputs: Callable[[Tensor], Tensor],
        settings: Settings,
    ) -> None:
        self.pairs, self.experts, self.branches, self.inputs = pairs, experts, branches, inputs
        self.settings = settings

    def step(self, number: int) -> Tensor:
        """Match the segment of step ``number`` and return the loss, the sum of both branches'."""
        settings, device = self.settings, str(self.pairs.images.device)
        generator = make_generator(settings.seed, _START, number)
        folder = self.experts[int(torch.randint(len(self.experts), (), generator=generator))]
        epoch = int(torch.randint(settings.max_start_epoch, (), generator=generator))
        starts, targets = (
            [parameters(folder, name, at, device) for name in ("image", "text")]
            for at in (epoch, epoch + settings.expert_epochs)
        )
        missing, whole = self.distances(starts, targets, self.plans(number))
        loss = sum(part / start for part, start in zip(missing, whole, strict=True))
        self.pairs.optimiser.zero_grad()
        self.backward(loss, sum(missing) / sum(whole) if settings.merge else loss)
        self.pairs.update()
        return loss.detach()

    def backward(self, loss: Tensor, merged: Tensor) -> None:
        """Set the gradients of all that is learned by ``merged``, but those of the rates by ``loss`` (LoRS)."""
        (by_rates,) = torch.autograd.grad(loss, self.pairs.rates, retain_graph=True)
        merged.backward()
        self.pairs.rates.grad = by_rates

    def distances(
        self, starts: Sequence[Tensor], targets: Sequence[Tensor], plans: Sequence[Plan]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return both branches' squared distances to their target [P], from where they end and from their start."""
        pairs = self.pairs
        images, texts = self.inputs(pairs.images), pairs.texts
        path = [start.detach().requires_grad_() for start in starts]
        for plan in plans:
            # TESLA: a step's gradient does not depend on the steps before it.
            at = path if self.settings.gradient == "unrolled" else [part.detach().requires_grad_() for part in path]
            gradients = torch.autograd.grad(self.inner(at, images, texts, plan), at, create_graph=True)
            path = [part - rate * by for part, rate, by in zip(path, pairs.rates, gradients, strict=True)]
        missing, whole = (
            [(part - target).square().sum() for part, target in zip(parts, targets, strict=True)]
            for parts in (path, starts)
        )
        return missing, whole

    def inner(self, at: Sequence[Tensor], images: Tensor, texts: Tensor, plan: Plan) -> Tensor:
        """Return the loss of one inner step at parameters [P] of both branches."""
        rows, wanted = plan.rows, self.pairs.similarity
        chosen = [images[rows], texts[rows]]
        if plan.mixed:
            share, order = plan.mixed
            chosen = [share * part + (1 - share) * part[order] for part in chosen]
        image, text = (
            branch(vector, part, keep)
            for branch, vector, part, keep in zip(self.branches, at, chosen, plan.keep, strict=True)
        )
        target = torch.eye(len(rows), device=images.device) if wanted is None else wanted.of(rows)
        return LOSSES[self.settings.inner_loss](self.settings.inner_scale * cosines(image, text), target)

    def plans(self, number: int) -> list[Plan]:
        """Draw all inner steps: mini-batches of a permutation, drawn ``anew`` for each or when fewer pairs remain."""
        settings, count = self.settings, len(self.pairs.images)
        device = self.pairs.images.device
        generator = make_generator(settings.seed, _STEPS, number)
        shares = np.random.default_rng(stream_seed(settings.seed, "mix", number))
        size, left, plans = min(settings.batch_syn, count), torch.empty(0, dtype=torch.long), []
        for _ in range(settings.syn_steps):
            if settings.anew or len(left) < size:
                left = torch.randperm(count, generator=generator)
            rows, left = left[:size], left[size:]
            keep = tuple(self._kept(branch, size, generator) for branch in self.branches)
            order = torch.randperm(size, generator=generator).to(device) if settings.mix else None
            mixed = None if order is None else (float(shares.beta(settings.mix, settings.mix)), order)
            plans.append(Plan(rows.to(device), keep, mixed))  # type: ignore[arg-type]
        return plans

    def _kept(self, branch: Flat, size: int, generator: torch.Generator) -> Tensor | None:
        head = getattr(branch.branch, "first", None)
        if not self.settings.inner_dropout or head is None:
            return None
        return kept(size, head.out_features, generator, self.pairs.images.device)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs: the pairs; all else comes from the step's number."""
        return self.pairs.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.pairs.restore(state)
