"""Steps of KIP: the regression's error on a batch of training images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.kernels.ridge import centred, regularised, solve
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.kernels.fully_connected import Kernel
    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.kernel.support import Support


@dataclass
class InducingPoints:
    """One step: half the mean squared error of the regression on a balanced batch of training images, Adam.

    Of classes with fewer images than ``targets``/K, all are taken.
    """

    support: Support
    real: RealImages
    kernel: Kernel
    ridge: float
    targets: int
    seed: int

    def step(self, number: int) -> float:
        """Do one step and return the loss."""
        generator, classes = make_generator(self.seed, number + 1), self.real.classes
        drawn = [self.real.draw(label, max(1, self.targets // classes), generator) for label in range(classes)]
        wanted = torch.cat([torch.full((len(images),), label) for label, images in enumerate(drawn)])
        loss = self.loss(torch.cat(drawn), wanted.to(self.real.device))
        self.support.optimiser.zero_grad()
        loss.backward()
        self.support.optimiser.step()
        return float(loss.detach())

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the regression's error on images [m, C, S, S] of classes [m]."""
        own = self.support.images.flatten(1)
        weights = solve(regularised(self.kernel(own, own), self.ridge), self.support.targets)
        found = self.kernel(images.double().flatten(1), own) @ weights
        return (found - centred(labels, self.real.classes)).square().mean() / 2

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return self.support.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.support.restore(state)
