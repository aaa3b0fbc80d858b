"""Matching characteristic functions of features, class by class (Wang et al. 2025, NCFM.py, Condenser.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F

from ddbench_plugins.methods.dm.matching import DistributionMatching
from ddbench_plugins.methods.dm.pairs import between
from ddbench_plugins.methods.dm.tiled import UnitTiles
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from ddbench_plugins.methods.dm.pairs import State

#: Factor of the loss, and the least phase difference.
SCALE, LEAST = 300.0, 1e-12
_FREQUENCIES, _NETWORK, _CALIBRATION = "frequencies", "network", "calibration"


def characteristic_distance(real: Tensor, synthetic: Tensor, frequencies: Tensor) -> Tensor:
    """Return the mean over frequencies [T, F] of how far the characteristic functions of two samples [n, F] are apart.

    √(½ (|φ| − |ψ|)² + ½ · 2 (|φ||ψ| − Re φ Re ψ − Im φ Im ψ)): amplitude and phase.
    """
    (a, b), (c, d) = (
        ((side @ frequencies.T).cos().mean(0), (side @ frequencies.T).sin().mean(0)) for side in (real, synthetic)
    )
    sizes = (a.square() + b.square()).sqrt(), (c.square() + d.square()).sqrt()
    amplitude = (sizes[0] - sizes[1]).square()
    phase = 2 * (sizes[0] * sizes[1] - a * c - b * d)
    return (0.5 * amplitude + 0.5 * phase.clamp(min=LEAST)).sqrt().mean()


@dataclass(frozen=True)
class Characteristic:
    """What differs from DM; see the options of the method."""

    distance: str
    frequencies: int
    calibration: float
    patience: int


class CharacteristicMatching(DistributionMatching):
    """DM's step on characteristic functions, in networks between random and trained, then a calibration."""

    graphs: ClassVar[bool] = False

    def __init__(self, *parts: Any) -> None:
        *parents, self.own, self.pairs = parts
        super().__init__(*parents)
        self.number = 0
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.images.optimiser, factor=0.5, patience=self.own.patience
        )
        self.pair: tuple[State, State] | None = None

    def step(self, number: int) -> Tensor:
        """Do one step and return the loss, summed over classes."""
        self.number = number
        if isinstance(self.images, UnitTiles):
            self.images.clamp()
        loss = super().step(number)
        if self.pair and self.own.calibration:
            loss = loss + self._calibrate(number)
        if self.own.patience:
            self.plateau.step(float(loss) / self.images.classes)
        return loss

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"plateau": self.plateau.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        self.plateau.load_state_dict(state["plateau"])

    def _network(self, number: int) -> nn.Module:
        network = super()._network(number)
        if self.pairs:
            generator = make_generator(self.settings.seed, _NETWORK, number + 1)
            self.pair = self.pairs[int(torch.randint(len(self.pairs), (), generator=generator))]
            network.load_state_dict(between(self.pair, float(torch.rand((), generator=generator))))
        return network

    def _distance(self, labels: Sequence[int], real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
        if self.own.distance == "means":
            return super()._distance(labels, real, synthetic)
        found = []
        for label, target, features in zip(labels, real, synthetic, strict=True):
            generator = make_generator(self.settings.seed, _FREQUENCIES, self.number + 1, label + 1)
            t = torch.randn((self.own.frequencies, target.shape[1]), generator=generator).to(target)
            found.append(characteristic_distance(F.normalize(target, dim=1), F.normalize(features, dim=1), t))
        return SCALE * torch.stack(found).sum()

    def _calibrate(self, number: int) -> Tensor:
        """Let the trained network name each class's images, and move the pixels after each; return the summed loss."""
        assert self.pair is not None  # chosen with the network
        network: Any = super()._network(number)
        network.load_state_dict(self.pair[1])
        total = torch.zeros((), device=self.images.images.device)
        for label in range(self.images.classes):
            view = self._view(make_generator(self.settings.seed, _CALIBRATION, number + 1, label + 1))
            x = view(self.images.of_class(label)).contiguous(memory_format=torch.channels_last)
            with autocast(self.settings.precision, x.device), kernels():
                logits = network(x).float()
            loss = self.own.calibration * F.cross_entropy(logits, torch.full((len(x),), label, device=x.device))
            loss.backward(inputs=[self.images.images])
            total += loss.detach()
            self._move()
        return total
