"""A network that counts from where it begins, and its training, which ends when it gets no better on given images."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.engine import copied
from ddbench_plugins.training.runtime import LossScaler
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ddbench_plugins.evaluators.rfad_nn.evaluator import RfadNnRecipe
    from ddbench_plugins.training.engine import Loop
    from ddbench_plugins.training.optimisers import OptimiserFactory


class Student(nn.Module):
    """A network, minus what it put out at first where ``centring``."""

    def __init__(self, network: nn.Module, *, centring: bool) -> None:
        super().__init__()
        self.network = network
        self.start = copy.deepcopy(network).requires_grad_(requires_grad=False) if centring else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs [B, K] of images [B, C, S, S]."""
        outputs: Tensor = self.network(x)
        return outputs if self.start is None else outputs - self.start(x)

    def moved(self) -> Tensor:
        """Return the sum of squared changes of the parameters, or of parameters without centring."""
        now = list(self.network.parameters())
        if self.start is not None:
            now = [ours - first for ours, first in zip(now, self.start.parameters(), strict=True)]
        return torch.stack([change.square().sum() for change in now]).sum()


class Training:
    """Steps of SGD by a recipe; with ``watch``, only until that has not been higher for the recipe's patience.

    Attributes:
        student: what is trained.
        images, wanted: [N, C, S, S] as networks take them, and what outputs are to be [N, K].
        watch: gives the accuracy that decides; None, and the last network is the result.
        highest, best_step: the highest accuracy so far, and after how many steps.
        best: the network then.
        ended: no step changes anything any more.
    """

    def __init__(
        self,
        student: Student,
        images: Tensor,
        targets: Tensor,
        *,
        recipe: RfadNnRecipe,
        optimiser: OptimiserFactory,
        loop: Loop,
        seed: int,
        watch: Callable[[], float] | None,
    ) -> None:
        self.student, self.images, self.recipe = student, images, recipe
        self.loop, self.seed, self.watch = loop, seed, watch
        self.optimiser, self.scaler = optimiser(student.network), LossScaler(loop.precision, loop.device)
        self.wanted = targets * (recipe.label_scale if recipe.scaled else 1.0)
        student.train()
        if student.start is not None:  # f − f₀ is to be s·Y
            with torch.no_grad(), loop.autocast(), kernels():
                first = [student.start(part).float() for part in images.split(recipe.batch_size)]
            self.wanted += torch.cat(first)
        self.highest, self.best_step, self.ended, self.loss = -1.0, 0, False, 0.0
        self.best: dict[str, Any] = {}

    def step(self, number: int) -> dict[str, float]:
        """Look where it is time to, then do one step unless that was the end; return the loss."""
        if self.watch is not None and not self.ended:
            if number % self.recipe.check == 0:
                self.look(number)
            self.ended = number - self.best_step >= self.recipe.patience
        if not self.ended:
            self.loss = self._update(number)
        return {"loss": self.loss}

    def look(self, number: int) -> None:
        """Keep the network after ``number`` steps if it is the best so far."""
        accuracy = self.watch() if self.watch else -1.0
        if accuracy > self.highest:
            self.highest, self.best_step = accuracy, number
            self.best = copied(self.student.network.state_dict())

    def finish(self) -> None:
        """Make the best network the student's."""
        if self.watch is not None:
            if not self.ended:  # the released code does not look at the last one
                self.look(self.recipe.steps)
            self.student.network.load_state_dict(self.best)

    def _update(self, number: int) -> float:
        images, wanted = self.images, self.wanted
        if not self.recipe.whole_set:
            chosen = torch.randint(
                len(images), (self.recipe.batch_size,), generator=make_generator(self.seed, "batch", number)
            ).to(images.device)
            images, wanted = images[chosen], wanted[chosen]
        with self.loop.autocast(), kernels():
            outputs = self.student.network(images)
        loss = (outputs.float() - wanted).square().mean() / self.recipe.label_scale**2
        if self.recipe.weight_decay:
            loss = loss + self.recipe.weight_decay * self.student.moved()
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            **{"network": self.student.network.state_dict(), "optimiser": self.optimiser.state_dict()},
            **{"scaler": self.scaler.state_dict(), "best": self.best, "highest": self.highest},
            **{"best_step": self.best_step, "ended": self.ended, "loss": self.loss},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.student.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.best, self.highest, self.best_step = state["best"], state["highest"], state["best_step"]
        self.ended, self.loss = state["ended"], state["loss"]
