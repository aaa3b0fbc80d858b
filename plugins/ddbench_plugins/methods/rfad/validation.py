"""The best images of a run by held-out training images, and its end when they get no better (Loo et al. 2022)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench_plugins.kernels.random_features import Layers
    from ddbench_plugins.methods.rfad.regression import RandomFeatureRegression


class Validated:
    """Steps of ``work``; after every ``check``, its loss on the held-out images, with networks that never change.

    When the loss has not been lower for ``patience`` steps, further ones do nothing.
    """

    def __init__(
        self, work: RandomFeatureRegression, held_out: Tensor, networks: Sequence[Layers], check: int, patience: int
    ) -> None:
        self.work, self.held_out, self.networks = work, held_out, networks
        self.check, self.patience = check, patience
        self.lowest, self.since, self.loss = math.inf, 0, math.nan

    def step(self, number: int) -> float:
        """Do one step, unless the run is over, and return its loss."""
        if number - self.since >= self.patience:
            return self.loss
        self.loss = self.work.step(number)
        if (number + 1) % self.check == 0:
            with torch.no_grad():
                found = float(self.work.loss(self.networks, self.held_out))
            if found < self.lowest:
                self.lowest, self.since = found, number + 1
                self.work.support.keep()
        return self.loss

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return self.work.state() | {"lowest": self.lowest, "since": self.since, "loss": self.loss}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.work.restore(state)
        self.lowest, self.since, self.loss = state["lowest"], state["since"], state["loss"]
