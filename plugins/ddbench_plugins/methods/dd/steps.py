"""What DD learns, images, step sizes and labels, and one of its steps (train_distilled_image.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench import DistilledSet, Schedule
from ddbench_plugins.matching.images import SyntheticImages
from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat
from ddbench_plugins.training.augment import flip, take_rows_and_columns
from ddbench_plugins.training.pixels import finite
from ddbench_plugins.training.replay import XAVIER, cross_entropy
from ddbench_plugins.training.seeding import batch_indices, make_generator
from ddbench_plugins.training.unroll import Unroll

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor, nn

    from ddbench_plugins.matching.images import RealImages

#: Pixels by which real images are shifted, their border mirrored.
PADDING = 4


@dataclass(frozen=True)
class Plan:
    """The order of the steps.

    Attributes:
        batches: images of each batch.
        passes: over all batches.
        lr: step size at first.
        network: name of the network that is trained.
        seed: of the initial weights; None for new ones in every iteration.
    """

    batches: tuple[tuple[int, ...], ...]
    passes: int
    lr: float
    network: str
    seed: int | None

    @property
    def order(self) -> list[int]:
        """The batch of each step."""
        return [*range(len(self.batches))] * self.passes

    @property
    def schedule(self) -> Schedule:
        """What a set holds of it, with the step sizes that it begins with."""
        steps = tuple((batch, self.lr) for batch in self.order)
        return Schedule(self.batches, steps, self.network, XAVIER, self.seed)


class OrderedImages(SyntheticImages):
    """Images with labels [N] and targets [N, K], and a step size, softplus(``sizes``) [T], for each step of a plan.

    Targets that are learned (``soft``) go through a softmax first where they are ``activated``; they are stored as
    losses see them. ``counted`` is what the IPC of the set counts.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        targets: Tensor,
        plan: Plan,
        lr: float,
        *,
        frozen: bool = False,
        soft: bool = False,
        activated: bool = False,
        counted: str = "images",
    ) -> None:
        super().__init__(images, len(images), 0.0)
        self.labels, self.plan, self.activated, self.counted = labels, plan, activated, counted
        self.images.requires_grad_(not frozen)
        self.targets = targets.clone().requires_grad_(soft)
        first = math.log(math.expm1(plan.lr))
        self.sizes = torch.full((len(plan.order),), first, device=images.device, requires_grad=True)
        learned = [tensor for tensor in (self.images, self.targets, self.sizes) if tensor.requires_grad]
        self.optimiser = torch.optim.Adam(learned, lr, betas=(0.5, 0.999))

    @property
    def rates(self) -> Tensor:
        """The step sizes [T]."""
        return F.softplus(self.sizes)

    def seen(self, targets: Tensor) -> Tensor:
        """Return what losses see of targets [n, K]."""
        return targets.softmax(1) if self.activated else targets

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"targets": self.targets.detach().cpu(), "sizes": self.sizes.detach().cpu()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            self.targets.copy_(state["targets"])
            self.sizes.copy_(state["sizes"])

    def distilled(self, space: str = "normalized", **fields: Any) -> DistilledSet:
        """Return the images as they are now, in their order, with their labels where these are learned."""
        plan, rates = self.plan, finite(self.rates.detach(), "the step sizes").tolist()
        schedule = replace(plan.schedule, steps=tuple(zip(plan.order, rates, strict=True)))
        if self.targets.requires_grad:
            labels = finite(self.seen(self.targets.detach()), "the labels").cpu().numpy()
            fields |= {"soft_labels": labels, "label_kind": "probabilities" if self.activated else "free"}
        return super().distilled(space, schedule=schedule, counted=self.counted, **fields)


@dataclass(frozen=True)
class Settings:
    """How one step is made; see the options of the method. ``augment`` shifts real images, ``mirrored`` flips some."""

    batch_real: int
    lr_img: float
    decay: float
    decay_every: int
    decay_early: int
    shuffle_steps: bool
    augment: bool
    mirrored: bool
    seed: int


class Distillation:
    """One step: a network goes through all steps of the plan; its loss on real images then changes the plan."""

    def __init__(
        self,
        images: OrderedImages,
        real: RealImages,
        labels: Tensor,
        networks: Callable[[int], nn.Module],
        settings: Settings,
    ) -> None:
        self.images, self.real, self.labels, self.networks, self.settings = images, real, labels, networks, settings

    def step(self, number: int) -> float:
        """Do one step and return the loss on real images."""
        settings, images = self.settings, self.images
        generator = make_generator(settings.seed, number + 1)
        count = min(settings.batch_real, len(self.labels))
        chosen = batch_indices(len(self.labels), count, number, settings.seed)
        batch = self.real.at(chosen)
        if settings.augment:
            batch = shifted(batch, generator, mirrored=settings.mirrored)
        network = self.networks(number)
        outer = FlatNetwork(network)
        walk = self.walk(outer, flat(network), self.order(generator))
        end = walk.end.clone().requires_grad_()
        loss = F.cross_entropy(outer.logits(end, batch), self.labels[chosen].to(batch.device))
        found = walk.gradients(*torch.autograd.grad(loss, end))
        images.optimiser.zero_grad()
        for tensor, gradient in zip((images.images, images.targets), found.learned, strict=True):
            tensor.grad = gradient if tensor.requires_grad else None
        images.rates.backward(found.rates)
        factor = settings.decay ** ((number + settings.decay_early) // settings.decay_every)
        images.optimiser.param_groups[0]["lr"] = settings.lr_img * factor
        images.optimiser.step()
        return float(loss.detach())

    def order(self, generator: Generator) -> list[int]:
        """Return the batch of each step: the plan's, or all batches of each pass in another order."""
        if not self.settings.shuffle_steps:
            return self.images.plan.order
        count = len(self.images.plan.batches)
        passes = [torch.randperm(count, generator=generator).tolist() for _ in range(self.images.plan.passes)]
        return [batch for one in passes for batch in one]

    def walk(self, network: FlatNetwork, start: Tensor, order: list[int]) -> Unroll:
        """Return the steps on the images as they are now, from weights [P]."""
        plan, images = self.images.plan, self.images
        places = [torch.tensor(batch, device=start.device) for batch in plan.batches]

        def loss(number: int, weights: Tensor, learned: Sequence[Tensor]) -> Tensor:
            chosen = places[order[number]]
            return cross_entropy(network.logits(weights, learned[0][chosen]), images.seen(learned[1][chosen]))

        return Unroll(loss, start, (images.images, images.targets), images.rates)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs; networks live for a step only."""
        return self.images.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.images.restore(state)


def shifted(x: Tensor, generator: Generator, *, mirrored: bool) -> Tensor:
    """Return images [B, C, S, S] shifted by up to PADDING pixels, with their border mirrored, half of them flipped."""
    size = x.shape[-1]
    starts = torch.randint(0, 2 * PADDING + 1, (2, len(x), 1), generator=generator)
    rows, columns = starts + torch.arange(size)
    x = take_rows_and_columns(F.pad(x, (PADDING,) * 4, mode="reflect"), rows, columns)
    return flip(x, torch.rand(len(x), generator=generator) < 0.5) if mirrored else x
