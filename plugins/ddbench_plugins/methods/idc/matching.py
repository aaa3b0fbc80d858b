"""Class-wise matching on networks that are trained on real images (Kim et al. 2022, condense.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F

import ddbench
from ddbench_plugins.matching.distances import distance
from ddbench_plugins.matching.draws import draw_view
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training import optimisers
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.dsa import dsa
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.runtime import Precision, autocast
from ddbench_plugins.training.seeding import make_generator, seeded
from ddbench_plugins.training.steps import Batch, hard_label_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from ddbench_plugins.matching.distances import Metric
    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.idc.images import FormedImages
    from ddbench_plugins.training.dsa import Operator

_CLASS, _VIEW, _TRAIN, _EARLY, _DROPOUT = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Matching:
    """How one step is made; see the options of the method."""

    inner: int
    batch_real: int
    train_images: int
    early_epochs: int
    cutmix: float
    lr_net: float
    weight_decay: float
    match: Literal["gradients", "features"]
    metric: Metric
    biases: bool
    classifier: bool
    strategy: tuple[Operator, ...]
    train_strategy: tuple[Operator, ...]
    step_per_class: bool
    precision: Precision
    seed: int


class ClassMatching:
    """One step: match every class, then train the network a little; a new network every ``inner`` steps."""

    def __init__(
        self, images: FormedImages, real: RealImages, networks: Callable[[int], nn.Module], settings: Matching
    ) -> None:
        self.images, self.real, self.networks, self.settings = images, real, networks, settings
        self.everything = torch.cat([real.members(label) for label in range(real.classes)])
        self.labels = torch.cat([torch.full((len(real.members(c)),), c) for c in range(real.classes)])
        self.scaled = normalise(real.mean, real.std)
        self.number = 0
        self.network: nn.Module | None = None
        self.optimiser: torch.optim.Optimizer | None = None

    def step(self, number: int) -> Tensor:
        """Do inner step ``number`` and return the mean loss of a class."""
        network, optimiser = self._current(number)
        loss = self._match(network, number)
        self._train(network, optimiser, number, _TRAIN, self.settings.train_images)
        self.number = number + 1
        return loss

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs: the images, and network and optimiser if they live on."""
        state = self.images.state() | {"number": self.number}
        if self.network is not None and self.optimiser is not None and self.number % self.settings.inner:
            state |= {"network": self.network.state_dict(), "sgd": self.optimiser.state_dict()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.images.restore(state)
        self.number = state["number"]
        if "network" in state:
            network, optimiser = self._fresh(self.number // self.settings.inner)
            network.load_state_dict(state["network"])
            optimiser.load_state_dict(state["sgd"])

    def _current(self, number: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return the network of a step; where a new one begins, pixels are clamped and it may be trained ahead."""
        iteration, turn = divmod(number, self.settings.inner)
        if turn and self.network is not None and self.optimiser is not None:
            return self.network, self.optimiser
        network, optimiser = self._fresh(iteration)
        self.images.clamp()
        for epoch in range(self.settings.early_epochs):
            self._train(network, optimiser, iteration * self.settings.early_epochs + epoch, _EARLY, len(self.labels))
        return network, optimiser

    def _fresh(self, iteration: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        settings = self.settings
        self.network = self.networks(iteration)
        self.optimiser = optimisers.sgd(settings.lr_net, weight_decay=settings.weight_decay)(self.network)
        return self.network, self.optimiser

    # Matching -----------------------------------------------------------------------------------------------------

    def _match(self, network: nn.Module, number: int) -> Tensor:
        images = self.images
        total = torch.zeros((), dtype=torch.float64, device=images.images.device)
        images.optimiser.zero_grad()
        for label in range(images.classes):
            loss = self._class_loss(network, label, number)
            loss.backward(inputs=[images.images])
            total += loss.detach()
            if self.settings.step_per_class:
                # Of the whole tensor: momentum moves the other classes too.
                images.optimiser.step()
                images.optimiser.zero_grad()
        if not self.settings.step_per_class:
            images.optimiser.step()
        return total / images.classes

    def _class_loss(self, network: nn.Module, label: int, number: int) -> Tensor:
        settings, generator = self.settings, make_generator(self.settings.seed, _VIEW, number + 1, label + 1)
        real = self.real_batch(label, number)
        synthetic = self.scaled(self.images.decoded(label, generator), generator)
        view = draw_view(real.shape[-1], generator, settings.strategy, "idc", real.device)
        target = [layer.detach() for layer in self._seen(network, view(real), label)]
        return distance(settings.metric, target, self._seen(network, view(synthetic), label, differentiable=True))

    def _seen(self, network: nn.Module, x: Tensor, label: int, differentiable: bool = False) -> tuple[Tensor, ...]:
        """Return what is matched: gradients of the chosen parameters, or the mean feature."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.settings.match == "features":
            with autocast(self.settings.precision, x.device), kernels(), torch.set_grad_enabled(differentiable):
                return (network.embed(x).float().mean(0),)
        with autocast(self.settings.precision, x.device), kernels():
            logits = network(x).float()
        loss = F.cross_entropy(logits, torch.full((len(x),), label, device=x.device))
        return tuple(torch.autograd.grad(loss, self._matched(network), create_graph=differentiable))

    def _matched(self, network: nn.Module) -> list[nn.Parameter]:
        sizes = {4, *([1] if self.settings.biases else []), *([2] if self.settings.classifier else [])}
        if matched := [parameter for parameter in network.parameters() if parameter.ndim in sizes]:
            return matched
        raise ddbench.UsageError(
            "The network has no convolutions whose gradients could be matched.",
            hint="Choose one that has, e.g. -o method.network=convnet-3, or -o method.classifier=true.",
        )

    def real_batch(self, label: int, number: int) -> Tensor:
        """Return the batch of a class in inner step ``number``: the next of a shuffled pass, short ones left out."""
        members = self.real.members(label)
        size = min(self.settings.batch_real, len(members))
        turn, place = divmod(number, len(members) // size)
        order = torch.randperm(len(members), generator=make_generator(self.settings.seed, _CLASS, label + 1, turn + 1))
        return self.real.at(members[order[place * size : (place + 1) * size]])

    # Training of the network --------------------------------------------------------------------------------------

    def _train(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, number: int, stream: int, count: int
    ) -> None:
        """Train on ``count`` real images (up to whole batches) in random order, with CutMix."""
        settings = self.settings
        generator = make_generator(settings.seed, stream, number + 1)
        step = hard_label_step(cutmix_probability=settings.cutmix)
        augment = dsa("idc", settings.train_strategy)
        with seeded(settings.seed, stream, number + 1, _DROPOUT):
            for positions, labels, chosen in self._batches(count, generator):
                x = augment(self.real.at(positions), generator)
                batch = Batch(x.contiguous(memory_format=torch.channels_last), labels, chosen)
                with autocast(settings.precision, x.device), kernels():
                    loss = step(network, batch, generator)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

    def _batches(self, count: int, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield positions in the training split, labels, and places among all images; copied to the device at once."""
        if not count:
            return
        size = self.settings.batch_real
        order = torch.randperm(len(self.labels), generator=generator)[: -(-count // size) * size]
        whole = moved((self.everything[order], self.labels[order], order), self.real.device)
        yield from zip(*(part.split(size) for part in whole), strict=True)
