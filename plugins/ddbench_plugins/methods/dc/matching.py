"""Matching the gradients of real and synthetic images, class by class, in networks that are trained on the latter.

Zhao et al. 2021 (DC) and Zhao and Bilen 2021 (DSA): main.py, utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench_plugins.matching.distances import distance
from ddbench_plugins.matching.draws import batch_norms, draw_view
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training import optimisers
from ddbench_plugins.training.dsa import dsa
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import train
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.seeding import make_generator, stream_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from ddbench_plugins.matching.distances import Metric
    from ddbench_plugins.matching.draws import View
    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.training.dsa import Operator

#: Real images per class that set the statistics of batch norms before they are frozen.
BN_IMAGES = 16
_MATCHING, _TRAINING, _STATISTICS = 1, 2, 3


@dataclass(frozen=True)
class Matching:
    """How one step is made; see the options of the method. An empty strategy means no augmentation."""

    outer: int
    inner: int
    batch_real: int
    batch_train: int
    lr_net: float
    metric: Metric
    strategy: tuple[Operator, ...]
    joint_step: bool
    precision: str
    seed: int


class GradientMatching:
    """One step: match gradients of all classes, then train the network, a new one every ``outer`` steps."""

    def __init__(
        self, images: SyntheticImages, real: RealImages, networks: Callable[[int], nn.Module], settings: Matching
    ) -> None:
        self.images, self.real, self.networks, self.settings = images, real, networks, settings
        self.number = 0
        self.network: nn.Module | None = None

    def step(self, number: int) -> Tensor:
        """Do one matching step, and train the network unless it is thrown away now; return the loss per class."""
        iteration, turn = divmod(number, self.settings.outer)
        if turn == 0 or self.network is None:
            self.network = self.networks(iteration)
        loss = self._match(self.network, number)
        if turn < self.settings.outer - 1:
            self._train(self.network, number)
        self.number = number + 1
        return loss

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs: the images, and the network if it lives on."""
        state = self.images.state() | {"number": self.number}
        if self.network is not None and self.number % self.settings.outer:
            state["network"] = self.network.state_dict()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.images.restore(state)
        self.number = state["number"]
        if "network" in state:
            self.network = self.networks(self.number // self.settings.outer)
            self.network.load_state_dict(state["network"])

    def _match(self, network: nn.Module, number: int) -> Tensor:
        settings, images = self.settings, self.images
        network.train()
        if batch_norms(network):
            self._freeze_batch_norms(network, number)
        # The distance by rows leaves vectors out, so their gradients need not be taken.
        parameters = [p for p in network.parameters() if settings.metric != "rows" or p.ndim > 1]
        images.optimiser.zero_grad()
        loss = self._backward(network, parameters, number)
        images.optimiser.step()
        return loss

    def _backward(self, network: nn.Module, parameters: list[Tensor], number: int) -> Tensor:
        """Add up the gradient of the pixels, and return the mean loss of a class."""
        settings, images = self.settings, self.images
        total = torch.zeros((), device=images.images.device)
        kept = []
        for label, view, real in self._batches(number):
            target = self._real_gradients(network, parameters, view(real), label)
            gradients = self._gradients(network, parameters, view(images.of_class(label)), label, differentiable=True)
            loss = distance(settings.metric, target, gradients)
            total += loss.detach()
            if settings.joint_step:
                kept.append(loss)
            else:  # the sum's gradient, but the graph of one class at a time
                loss.backward(inputs=[images.images])
        if kept:
            torch.stack(kept).sum().backward(inputs=[images.images])
        return total.double() / images.classes

    def _batches(self, number: int) -> Iterator[tuple[int, View, Tensor]]:
        """Draw for each class the augmentation of a step and the real images, not augmented."""
        settings, labels = self.settings, range(self.images.classes)
        generators = [make_generator(settings.seed, _MATCHING, number + 1, label + 1) for label in labels]
        batches = self.real.draw_each(labels, settings.batch_real, generators)
        for label, generator, real in zip(labels, generators, batches, strict=True):
            yield label, draw_view(real.shape[-1], generator, settings.strategy, device=real.device), real

    def _real_gradients(
        self, network: nn.Module, parameters: list[Tensor], x: Tensor, label: int
    ) -> tuple[Tensor, ...]:
        with autocast(self.settings.precision, x.device):
            return self._gradients(network, parameters, x, label)

    @staticmethod
    def _gradients(
        network: nn.Module, parameters: list[Tensor], x: Tensor, label: int | Tensor, differentiable: bool = False
    ) -> tuple[Tensor, ...]:
        """Differentiable ones, of few images beside the real ones, are taken in float32."""
        with kernels():
            logits = network(x.contiguous(memory_format=torch.channels_last))
        labels = label if isinstance(label, torch.Tensor) else torch.full((len(x),), label, device=x.device)
        loss = F.cross_entropy(logits.float(), labels)
        return tuple(torch.autograd.grad(loss, parameters, create_graph=differentiable))

    def _freeze_batch_norms(self, network: nn.Module, number: int) -> None:
        """Let batch norms see real images of every class once, then use those statistics."""
        labels = range(self.images.classes)
        generators = [make_generator(self.settings.seed, _STATISTICS, number + 1, label + 1) for label in labels]
        x = torch.cat(self.real.draw_each(labels, BN_IMAGES, generators)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), autocast(self.settings.precision, x.device):
            network(x)
        for norm in batch_norms(network):
            norm.eval()

    def _train(self, network: nn.Module, number: int) -> None:
        settings = self.settings
        train(
            network,
            images=self.images.images.detach(),
            labels=self.images.labels,
            epochs=settings.inner,
            batch_size=settings.batch_train,
            optimiser=optimisers.sgd(settings.lr_net, momentum=0.0, weight_decay=0.0),
            seed=stream_seed(settings.seed, _TRAINING, number + 1),
            augment=dsa("dc", settings.strategy) if settings.strategy else None,
            compile="never",
            loop=Loop(str(self.images.images.device), settings.precision),
        )
