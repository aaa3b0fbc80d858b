"""Matching the mean features of real and synthetic images in random networks (Zhao and Bilen 2023, main_DM.py)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from ddbench_plugins.matching.draws import batch_norms, draw_shared, draw_view
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.dsa import apply
from ddbench_plugins.training.graphs import Steps
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Generator, Tensor, nn

    from ddbench_plugins.matching.draws import View
    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.training.dsa import Drawn, Operator

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

    #: Whether a group of classes can be a graph on a GPU: nothing is drawn but in :meth:`_draw`.
    graphs: ClassVar[bool] = True

    def __init__(
        self,
        images: SyntheticImages,
        real: RealImages,
        networks: Callable[[int], nn.Module],
        settings: Matching,
    ) -> None:
        self.images, self.real, self.networks, self.settings = images, real, networks, settings
        self.total = torch.zeros((), device=images.images.device)
        self.network: nn.Module | None = None

    def step(self, number: int) -> Tensor:
        """Do one step and return the loss, summed over classes."""
        network = self._network(number)
        if network is not self.network:
            self.network, captured = network, self._captured(network)
            self._steps = Steps(self._match, self.real.device, captured=captured)
        self.total.zero_()
        self.images.zero_grad()
        self._steps(self._draw(network, number))
        if not self.settings.step_per_class:
            self._move()
        return self.total.clone()

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
        self.images.zero_grad()

    def _network(self, number: int) -> nn.Module:
        """Return the network of a step, whose weights are not to be changed."""
        return self.networks(number).requires_grad_(False)

    def _captured(self, network: nn.Module) -> bool:
        """Whether groups of classes come again: not where batch norm sees the operators of all classes at once."""
        joint = self.settings.bn_joint and batch_norms(network) and not self.settings.step_per_class
        return self.graphs and self.real.device.type == "cuda" and not (self.settings.strategy and joint)

    def _groups(self, network: nn.Module) -> list[list[int]]:
        """Classes whose synthetic images share a forward pass; only in batch norm does it matter which."""
        classes = list(range(self.images.classes))
        if batch_norms(network):
            size = len(classes) if self.settings.bn_joint else 1
        else:
            size = max(1, self.settings.together // self.images.ipc)
        if self.settings.step_per_class or (self._captured(network) and self.settings.strategy):
            size = 1  # a graph for each operator
        return [classes[start : start + size] for start in range(0, len(classes), size)]

    def _draw(self, network: nn.Module, number: int) -> Iterator[tuple[Any, ...]]:
        """Yield for each group its classes, the positions of their real images, and their augmentations."""
        settings, captured = self.settings, self._captured(network)
        for labels in self._groups(network):
            own = [make_generator(settings.seed, number + 1, label + 1) for label in labels]
            positions = [
                self.real.choose(label, settings.batch_real, generator)
                for label, generator in zip(labels, own, strict=True)
            ]
            size = self.real.shape[-1]
            drawn = [draw_shared(size, generator, settings.strategy, settings.variant) for generator in own]
            yield [torch.tensor(label) if captured else label for label in labels], positions, drawn

    def _match(self, labels: Sequence[Any], positions: Sequence[Tensor], drawn: Sequence[Sequence[Drawn]]) -> None:
        """Add a group's gradient of the pixels, and its loss."""
        assert self.network is not None  # chosen at the beginning of the step
        views = [partial(apply, drawn=each) for each in drawn]
        shown = [self.images.of_class(label) for label in labels]
        loss = self._loss(self.network, labels, self.real.each_at(positions), shown, views)
        loss.backward(inputs=[self.images.images])
        self.total += loss.detach()
        if self.settings.step_per_class:
            self._move()

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
