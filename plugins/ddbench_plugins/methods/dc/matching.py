"""Matching the gradients of real and synthetic images, class by class, in networks that are trained on the latter.

Zhao et al. 2021 (DC) and Zhao and Bilen 2021 (DSA): main.py, utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench_plugins.matching.distances import distance
from ddbench_plugins.matching.draws import batch_norms, draw_shared
from ddbench_plugins.networks.native import kernels, plain_attention
from ddbench_plugins.training import optimisers
from ddbench_plugins.training.dsa import apply, dsa
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.graphs import Steps
from ddbench_plugins.training.loop import trainer
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.seeding import make_generator, stream_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from ddbench_plugins.matching.distances import Metric
    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.training.dsa import Drawn, Operator

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
        self.total = torch.zeros((), device=images.images.device)

    def step(self, number: int) -> Tensor:
        """Do one matching step, and train the network unless it is thrown away now; return the loss per class."""
        iteration, turn = divmod(number, self.settings.outer)
        if turn == 0 or self.network is None:
            self.use(self.networks(iteration))
        loss = self._match(number)
        if turn < self.settings.outer - 1:
            self._trainer([stream_seed(self.settings.seed, _TRAINING, number + 1)])
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
            network = self.networks(self.number // self.settings.outer)
            network.load_state_dict(state["network"])
            self.use(network)

    def use(self, network: nn.Module) -> None:
        """Begin with a network, which may be the one before with other weights; its graphs then remain."""
        if network is self.network:
            return
        settings, device = self.settings, self.images.images.device
        self.network = network
        self._class_by_class = Steps(self._match_classes, device)
        # Operators of all classes at once hardly come again.
        self._joint = Steps(self._match_classes, device, captured=not settings.strategy)
        self._statistics = Steps(self._see, device)
        self._trainer = trainer(
            [network],
            images=self.images.images.detach(),
            labels=self.images.labels,
            epochs=settings.inner,
            batch_size=settings.batch_train,
            optimiser=optimisers.sgd(settings.lr_net, momentum=0.0, weight_decay=0.0),
            augment=dsa("dc", settings.strategy) if settings.strategy else None,
            compile="never",
            loop=Loop(str(device), settings.precision),
            losses=False,
        )
        # The distance by rows leaves vectors out, so their gradients need not be taken.
        self.parameters = [p for p in network.parameters() if settings.metric != "rows" or p.ndim > 1]

    def _match(self, number: int) -> Tensor:
        assert self.network is not None  # which the step began with
        self.network.train()
        if norms := batch_norms(self.network):  # see real images of every class once, then use those statistics
            self._statistics([(self._draw(number, _STATISTICS, BN_IMAGES, ())[1],)])
            for norm in norms:
                norm.eval()
        self.total.zero_()
        self.images.zero_grad()
        loss = self._backward(number)
        self.images.optimiser.step()
        return loss

    def _backward(self, number: int) -> Tensor:
        """Add up the gradient of the pixels, and return the mean loss of a class."""
        settings = self.settings
        classes = self._draw(number, _MATCHING, settings.batch_real, settings.strategy)
        if settings.joint_step:
            self._joint([classes])
        else:
            self._class_by_class(zip(*([[each] for each in column] for column in classes), strict=True))
        return self.total.double() / self.images.classes

    def _draw(
        self, number: int, stream: int, count: int, strategy: Sequence[Operator]
    ) -> tuple[list[Tensor], list[Tensor], list[tuple[Drawn, ...]]]:
        """Draw for each class the positions of its real images and the augmentation of a step."""
        labels = range(self.images.classes)
        generators = [make_generator(self.settings.seed, stream, number + 1, label + 1) for label in labels]
        positions = [self.real.choose(label, count, each) for label, each in zip(labels, generators, strict=True)]
        size = self.real.shape[-1]
        drawn = [draw_shared(size, generator, strategy) for generator in generators]
        return [torch.tensor(label) for label in labels], positions, drawn

    def _match_classes(
        self, labels: Sequence[Tensor], positions: Sequence[Tensor], drawn: Sequence[Sequence[Drawn]]
    ) -> None:
        """Add to the gradient of the pixels what the sum of these classes' losses gives."""
        losses = []
        for label, real, each in zip(labels, self.real.each_at(positions), drawn, strict=True):
            target = self._real_gradients(apply(real, each), label)
            shown = apply(self.images.of_class(label), each)
            losses.append(distance(self.settings.metric, target, self._gradients(shown, label, differentiable=True)))
            self.total += losses[-1].detach()
        (torch.stack(losses).sum() if len(losses) > 1 else losses[0]).backward(inputs=[self.images.images])

    def _real_gradients(self, x: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        with autocast(self.settings.precision, x.device):
            return self._gradients(x, label)

    def _gradients(self, x: Tensor, labels: Tensor, differentiable: bool = False) -> tuple[Tensor, ...]:
        """Differentiable ones, of few images beside the real ones, are taken in float32."""
        assert self.network is not None
        with kernels(), plain_attention():
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels.expand(len(x)))
        return tuple(torch.autograd.grad(loss, self.parameters, create_graph=differentiable))

    def _see(self, positions: Sequence[Tensor]) -> None:
        """Let batch norms see real images of every class."""
        assert self.network is not None
        x = torch.cat(self.real.each_at(positions)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), autocast(self.settings.precision, x.device):
            self.network(x)
