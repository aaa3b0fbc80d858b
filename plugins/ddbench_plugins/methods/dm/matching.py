"""Matching the mean features of real and synthetic images in random networks (Zhao and Bilen 2023, main_DM.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from ddbench_plugins.matching.draws import batch_norms, draw_view
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor, nn

    from ddbench_plugins.matching.draws import View
    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.training.dsa import Operator

#: Synthetic images that go through the network at once, whole classes; bounds the memory, changes no number.
TOGETHER = 512


@dataclass(frozen=True)
class Matching:
    """How one step is made; see the options of the method."""

    batch_real: int
    strategy: tuple[Operator, ...]
    bn_joint: bool
    precision: str
    seed: int
    together: int = TOGETHER
    variant: Literal["dc", "idc"] = "dc"
    step_per_class: bool = False


class DistributionMatching:
    """One step: a new random network, Σ over classes of the squared distance of mean features, one step of SGD."""

    def __init__(
        self,
        images: SyntheticImages,
        real: RealImages,
        networks: Callable[[int], nn.Module],
        settings: Matching,
    ) -> None:
        self.images, self.real, self.networks, self.settings = images, real, networks, settings

    def step(self, number: int) -> Tensor:
        """Do one step and return the loss, summed over classes."""
        network = self._network(number)
        generators = [make_generator(self.settings.seed, number + 1, label + 1) for label in range(self.images.classes)]
        total = torch.zeros((), device=self.images.images.device)
        self.images.optimiser.zero_grad()
        for labels in self._groups(network):
            own = [generators[label] for label in labels]
            batches = self.real.draw_each(labels, self.settings.batch_real, own)
            views = [self._view(generator) for generator in own]
            loss = self._loss(network, labels, batches, [self.images.of_class(label) for label in labels], views)
            loss.backward(inputs=[self.images.images])
            total += loss.detach()
            if self.settings.step_per_class:
                self._move()
        if not self.settings.step_per_class:
            self._move()
        return total

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs; the networks live for a step only."""
        return self.images.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.images.restore(state)

    def _view(self, generator: Generator) -> View:
        settings, real = self.settings, self.real
        return draw_view(real.shape[-1], generator, settings.strategy, settings.variant, real.device)

    def _move(self) -> None:
        self.images.optimiser.step()
        self.images.optimiser.zero_grad()

    def _network(self, number: int) -> nn.Module:
        """Return the network of a step, whose weights are not to be changed."""
        return self.networks(number).requires_grad_(False)

    def _groups(self, network: nn.Module) -> list[list[int]]:
        """Classes whose synthetic images share a forward pass; only in batch norm does it matter which."""
        classes = list(range(self.images.classes))
        if batch_norms(network):
            size = len(classes) if self.settings.bn_joint else 1
        else:
            size = max(1, self.settings.together // self.images.ipc)
        if self.settings.step_per_class:
            size = 1
        return [classes[start : start + size] for start in range(0, len(classes), size)]

    def _loss(
        self,
        network: nn.Module,
        labels: Sequence[int],
        real: Sequence[Tensor],
        synthetic: Sequence[Tensor],
        views: Sequence[View],
    ) -> Tensor:
        real = [view(x) for view, x in zip(views, real, strict=True)]
        synthetic = [view(x) for view, x in zip(views, synthetic, strict=True)]
        with autocast(self.settings.precision, self.images.images.device), kernels():
            with torch.no_grad():
                if batch_norms(network):
                    target = class_features(network, real)
                else:  # the same numbers from less memory, which is also faster
                    target = [class_features(network, [x])[0] for x in real]
            features = class_features(network, synthetic)
        return self._distance(labels, target, features) + self._besides(network, labels, features)

    def _distance(self, labels: Sequence[int], real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
        """Return the sum over these classes of the distance of their features [n, F]."""
        target, means = (torch.stack([rows.mean(0) for rows in side]) for side in (real, synthetic))
        return (means - target).square().sum()

    def _besides(self, network: nn.Module, labels: Sequence[int], features: Sequence[Tensor]) -> Tensor | float:
        """Return what is added to the distance, of the synthetic features [n, F] of these classes."""
        return 0.0


def class_features(network: Any, classes: Sequence[Tensor]) -> list[Tensor]:
    """Return the features [n, F] of each class's images [n, C, S, S], all of them in one forward pass."""
    x = torch.cat(list(classes)).contiguous(memory_format=torch.channels_last)
    features = network.embed(x)
    wide = features if features.dtype == torch.float64 else features.float()
    return list(wide.split([len(images) for images in classes]))
