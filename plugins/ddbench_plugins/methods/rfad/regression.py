"""Steps of RFAD: the error of the regression on the features of new random networks (Loo et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from ddbench_plugins.kernels.random_features import nngp
from ddbench_plugins.kernels.ridge import centred, regularised, solve
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.seeding import batch_indices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench_plugins.kernels.random_features import Layers, RandomConvNets
    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.rfad.support import TransformedSupport


@dataclass(frozen=True)
class Settings:
    """How one step is made; see the options of the method."""

    batch_real: int
    ridge: float
    loss: str
    precision: str
    seed: int


class RandomFeatureRegression:
    """One step: new networks, a batch of the training images at ``places``, of labels ``labels`` [N], and AdaBelief."""

    def __init__(
        self,
        support: TransformedSupport,
        real: RealImages,
        labels: Tensor,
        places: Tensor,
        networks: RandomConvNets,
        settings: Settings,
    ) -> None:
        self.support, self.real, self.labels, self.places = support, real, labels, places
        self.networks, self.settings = networks, settings

    def step(self, number: int) -> float:
        """Do one step and return the loss."""
        settings, support = self.settings, self.support
        drawn = self.networks.draw(self.real.shape[0], self.real.device, settings.seed, number + 1)
        count = min(settings.batch_real, len(self.places))
        chosen = self.places[batch_indices(len(self.places), count, number, settings.seed)]
        loss = self.loss(drawn, chosen)
        support.optimiser.zero_grad()
        loss.backward()
        support.optimiser.step()
        return float(loss.detach())

    def loss(self, networks: Sequence[Layers], chosen: Tensor) -> Tensor:
        """Return the regression's error on training images at these positions, float64."""
        support, classes = self.support, self.support.classes
        with autocast(self.settings.precision, self.real.device):
            own, theirs = nngp(networks, support.decoded, self.real.at(chosen))
        found = theirs @ solve(regularised(own, self.settings.ridge), support.targets.double())
        labels = self.labels[chosen].to(found.device)
        if self.settings.loss == "platt":
            return F.cross_entropy(support.scale.exp() * found, labels)
        return (found - centred(labels, classes)).square().mean() / 2

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs; the networks live for a step only."""
        return self.support.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.support.restore(state)
