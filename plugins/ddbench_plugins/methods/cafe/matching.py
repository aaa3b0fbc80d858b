"""Aligning the mean features of classes at all levels of networks in training (Wang et al. 2022, distill.py)."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench_plugins.matching.draws import draw_view
from ddbench_plugins.methods.cafe.levels import levels
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training import optimisers
from ddbench_plugins.training.dsa import dsa
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import trainer
from ddbench_plugins.training.runtime import Precision, autocast
from ddbench_plugins.training.seeding import make_generator, stream_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.training.dsa import Operator

_MATCHING, _TRAINING, _QUERY = 1, 2, 3


@dataclass(frozen=True)
class Matching:
    """How an iteration is made; see the options of the method. An empty strategy means no augmentation."""

    batch_real: int
    batch_train: int
    lr_img: float
    lr_milestones: tuple[int, ...]
    lr_net: float
    weights: tuple[float, ...]
    center: float
    discrimination: float
    query: int
    window: int
    outer_span: float
    inner_span: float
    max_outer: int | None
    max_inner: int | None
    carry_accuracy: bool
    strategy: tuple[Operator, ...]
    precision: Precision
    seed: int


class Watcher:
    """The last accuracies, so many of them; each with ``carry`` times the one before, as that was seen."""

    def __init__(self, window: int, carry: float = 0.0) -> None:
        self._window, self._carry, self._values, self._last = window, carry, deque[float](), 0.0

    def span(self, accuracy: float) -> float | None:
        """Add one and return how far the last ones are apart, None while there are fewer than the window holds."""
        self._last = accuracy + self._carry * self._last
        self._values.append(self._last)
        if len(self._values) < self._window:
            return None
        span = max(self._values) - min(self._values)
        self._values.popleft()
        return span


class FeatureAlignment:
    """One step: a new network, matched and trained in turn until matching no longer changes what it knows.

    ``loops`` counts matchings and epochs, and the loops of each that were ended by their cap.
    """

    def __init__(
        self, images: SyntheticImages, real: RealImages, networks: Callable[[int], nn.Module], settings: Matching
    ) -> None:
        self.images, self.real, self.networks, self.settings = images, real, networks, settings
        self.network: nn.Module | None = None
        self.loops = Counter({"matchings": 0, "epochs": 0, "matchings_capped": 0, "epochs_capped": 0})

    def step(self, number: int) -> float:
        """Do an iteration and return the mean loss of its matchings."""
        settings, network, watcher = self.settings, self.networks(number), self._watcher()
        self._use(network)
        for group in self.images.optimiser.param_groups:
            group["lr"] = settings.lr_img * 0.5 ** sum(number >= milestone for milestone in settings.lr_milestones)
        losses = []
        for turn in itertools.count():
            losses.append(self._match(network, number, turn))
            self.loops["matchings"] += 1
            span = watcher.span(self._query(network, number, turn, 0))
            if span is not None and span < settings.outer_span:
                break
            if turn + 1 == settings.max_outer:
                self.loops["matchings_capped"] += 1
                break
            self._train(network, number, turn)
        return float(torch.stack(losses).mean())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs; the networks live for an iteration only."""
        return self.images.state() | {"loops": dict(self.loops)}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.images.restore(state)
        self.loops = Counter(state["loops"])

    # Matching -----------------------------------------------------------------------------------------------------

    def _match(self, network: nn.Module, number: int, turn: int) -> Tensor:
        settings, images = self.settings, self.images
        labels = range(images.classes)
        generators = [make_generator(settings.seed, _MATCHING, number + 1, turn + 1, label + 1) for label in labels]
        real = self.real.draw_each(labels, settings.batch_real, generators)
        size = real[0].shape[-1]
        views = [draw_view(size, generator, settings.strategy, device=self.real.device) for generator in generators]
        synthetic = torch.cat([view(images.of_class(label)) for label, view in zip(labels, views, strict=True)])
        loss = self._loss(network, [view(batch) for view, batch in zip(views, real, strict=True)], synthetic)
        images.optimiser.zero_grad()
        loss.backward(inputs=[images.images])
        images.optimiser.step()
        return loss.detach()

    def _loss(self, network: nn.Module, real: Sequence[Tensor], synthetic: Tensor) -> Tensor:
        """Return the part of the loss that the images [K·ipc, C, S, S] change; real ones are a batch per class.

        Real features do not depend on the images, so they are taken without gradients and a class at a time.
        """
        settings = self.settings
        with autocast(settings.precision, synthetic.device):
            with torch.no_grad():
                seen = [levels(network, _laid_out(batch)) for batch in real]
            means = [level.unflatten(0, (len(real), -1)).mean(1) for level in levels(network, _laid_out(synthetic))]
        targets = [torch.stack([each.mean(0) for each in level]) for level in zip(*seen, strict=True)]
        distances = [(target - mean).square().sum() for target, mean in zip(targets, means, strict=True)]
        aligned = torch.stack([w * each for w, each in zip(settings.weights, distances, strict=True)]).sum()
        queries = torch.cat([level[-1] for level in seen])
        names = torch.cat([torch.full((len(x),), label, device=x.device) for label, x in enumerate(real)])
        named = F.cross_entropy(queries @ means[-1].T, names, reduction="sum")
        return aligned + settings.center * distances[-1] + settings.discrimination * named

    # The network --------------------------------------------------------------------------------------------------

    def _use(self, network: nn.Module) -> None:
        """Begin with a network, which may be the one before with other weights; its graphs then remain."""
        if network is self.network:
            return
        self.network, settings = network, self.settings
        self._trainer = trainer(
            [network],
            images=self.images.images.detach(),
            labels=self.images.labels,
            epochs=1,
            batch_size=settings.batch_train,
            optimiser=optimisers.sgd(settings.lr_net, momentum=0.0, weight_decay=0.0),
            augment=dsa("dc", settings.strategy) if settings.strategy else None,
            compile="never",
            loop=Loop(str(self.images.images.device), settings.precision),
            losses=False,
        )

    def _train(self, network: nn.Module, number: int, turn: int) -> None:
        """Train epoch by epoch on the synthetic images until the accuracy on real ones moves."""
        settings, watcher = self.settings, self._watcher()
        for epoch in itertools.count():
            self._trainer([stream_seed(settings.seed, _TRAINING, number + 1, turn + 1, epoch + 1)])
            self.loops["epochs"] += 1
            span = watcher.span(self._query(network, number, turn, epoch + 1))
            if span is not None and span > settings.inner_span:
                return
            if epoch + 1 == settings.max_inner:
                self.loops["epochs_capped"] += 1
                return

    def _watcher(self) -> Watcher:
        """Return a new one: the released code carries accuracies within a loop, of matchings or of epochs, not on."""
        settings = self.settings
        return Watcher(settings.window, 1 / self.images.classes if settings.carry_accuracy else 0.0)

    def _query(self, network: nn.Module, number: int, turn: int, epoch: int) -> float:
        """Return the mean accuracy of classes on real images drawn anew."""
        settings, labels = self.settings, range(self.images.classes)
        place = number + 1, turn + 1, epoch + 1
        generators = [make_generator(settings.seed, _QUERY, *place, label + 1) for label in labels]
        right = []
        with torch.no_grad(), autocast(settings.precision, self.real.device), kernels():
            for label, batch in enumerate(self.real.draw_each(labels, settings.query, generators)):
                right.append((network(_laid_out(batch)).argmax(1) == label).double().mean())
        return float(torch.stack(right).mean())


def _laid_out(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
