"""Steps of KIP: support images and labels, and the regression's error on a batch of training images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.kernels.ridge import centred, regularised, solve
from ddbench_plugins.matching.images import SyntheticImages
from ddbench_plugins.training.pixels import finite
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench import DistilledSet
    from ddbench_plugins.kernels.fully_connected import Kernel
    from ddbench_plugins.matching.images import RealImages


class Support(SyntheticImages):
    """Images, and centred labels ``targets`` [n, K], float64, with the Adam that changes them."""

    def __init__(self, images: Tensor, ipc: int, lr: float, *, learn_labels: bool) -> None:
        super().__init__(images.double(), ipc, lr)
        self.targets = centred(self.labels, self.classes).requires_grad_(learn_labels)
        self.optimiser = torch.optim.Adam([self.images, *([self.targets] if learn_labels else [])], lr)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"targets": self.targets.detach().cpu()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            self.targets.copy_(state["targets"])

    def distilled(self, space: str = "normalized", **fields: Any) -> DistilledSet:
        """Return the images as they are now, with their labels where these are learned."""
        if self.targets.requires_grad:
            labels = finite(self.targets.detach(), "the labels").float().cpu().numpy()
            fields |= {"soft_labels": labels, "label_kind": "centred"}
        return super().distilled(space, **fields)


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
