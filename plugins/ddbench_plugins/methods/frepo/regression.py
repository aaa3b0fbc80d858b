"""Steps of FRePo: the error of the regression on one network's features, and one step of that network.

Zhou et al. 2022, lib/datadistillation/frepo.py. Networks are trained, but nothing is differentiated through it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.kernels.ridge import centred, regularised, solve
from ddbench_plugins.methods.frepo.pool import squared_error
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.seeding import batch_indices, make_generator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.frepo.pool import Pool
    from ddbench_plugins.methods.kernel.support import Support

#: The learning rate ends at this share of its beginning.
LAST_RATE = 0.1


@dataclass(frozen=True)
class Settings:
    """How one step is made; see the options of the method."""

    batch_real: int
    lr_img: float
    lr_iterations: int
    ridge: float
    flip: bool
    precision: str
    seed: int


class FeatureRegression:
    """One step: lower the error on training images of labels ``labels`` [N], then train the network that was used."""

    def __init__(self, support: Support, real: RealImages, labels: Tensor, pool: Pool, settings: Settings) -> None:
        self.support, self.real, self.labels, self.pool, self.settings = support, real, labels, pool, settings

    def step(self, number: int) -> float:
        """Do one step and return the loss."""
        settings, support = self.settings, self.support
        generator = make_generator(settings.seed, number + 1)
        place = int(torch.randint(len(self.pool.networks), (), generator=generator))
        count = min(settings.batch_real, len(self.labels))
        chosen = batch_indices(len(self.labels), count, number, settings.seed)
        targets = centred(self.labels[chosen].to(self.real.device), support.classes)
        loss = self.loss(self.pool.networks[place], self.real.at(chosen), targets) - decidedness(support.targets)
        support.optimiser.param_groups[0]["lr"] = settings.lr_img * rate(number / settings.lr_iterations)
        support.optimiser.zero_grad()
        loss.backward(inputs=[support.images, *([support.targets] if support.targets.requires_grad else [])])
        support.optimiser.step()
        images, own = support.images.detach(), support.targets.detach()
        self.pool.update(place, images, own, generator, autocast(settings.precision, images.device))
        return float(loss.detach())

    def loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the regression's error on images [m, C, S, S] with centred targets [m, K], float64.

        With ``flip`` the support is joined by its mirror images.
        """
        own, wanted = self.support.images, self.support.targets
        if self.settings.flip:
            own, wanted = torch.cat([own, own.flip(-1)]), torch.cat([wanted, wanted])
        network.eval()
        with autocast(self.settings.precision, own.device), kernels():
            with torch.no_grad():
                theirs = features(network, images)
            ours = features(network, own)
        # In float64, so that rounding cannot make a matrix of almost equal images indefinite.
        wide = ours.double()
        weights = solve(regularised(wide @ wide.T, self.settings.ridge), wanted.double())
        return squared_error((theirs @ ours.T).double() @ weights, targets)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return self.support.state() | {"pool": self.pool.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.support.restore(state)
        self.pool.restore(state["pool"])


def features(network: Any, images: Tensor) -> Tensor:
    """Return what the network's last layer reads of images [n, C, S, S]: float32 [n, F]."""
    found: Tensor = network.embed(images.contiguous(memory_format=torch.channels_last))
    return found if found.dtype == torch.float64 else found.float()


def decidedness(targets: Tensor) -> Tensor:
    """Return how far each row's largest number is above the next, at most 1/K; the mean of [n, K], 0 of one class."""
    classes = targets.shape[1]
    if classes == 1:
        return torch.zeros((), dtype=targets.dtype, device=targets.device)
    first, second = targets.topk(2).values.unbind(1)
    return (first - second).clamp(max=1 / classes).mean()


def rate(share: float) -> float:
    """Return the factor of the learning rate after a share of the run: a cosine from 1 to LAST_RATE, which stays."""
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
