"""Class-wise matching on networks that are trained on real images (Kim et al. 2022, condense.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F

import ddbench
from ddbench_plugins.matching.distances import distance
from ddbench_plugins.matching.draws import draw_shared
from ddbench_plugins.networks.native import kernels, plain_attention
from ddbench_plugins.training import optimisers
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.dsa import apply, dsa
from ddbench_plugins.training.graphs import Steps
from ddbench_plugins.training.runtime import Precision, autocast
from ddbench_plugins.training.seeding import make_generator, seeded
from ddbench_plugins.training.steps import Batch, answered, hard_label_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from ddbench_plugins.matching.distances import Metric
    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.idc.images import FormedImages
    from ddbench_plugins.training.dsa import Drawn, Operator

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
        self.scaled, self._unused = normalise(real.mean, real.std), torch.Generator()
        self.augment = dsa("idc", settings.train_strategy)
        self.loss = hard_label_step(cutmix_probability=settings.cutmix)
        self.total = torch.zeros((), dtype=torch.float64, device=images.images.device)
        self.number = 0
        self.network: nn.Module | None = None
        self.optimiser: torch.optim.Optimizer | None = None

    def step(self, number: int) -> Tensor:
        """Do inner step ``number`` and return the mean loss of a class."""
        self._begin(number)
        loss = self._match(number)
        self._train(number, _TRAIN, self.settings.train_images)
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
        self.number, self.network = state["number"], None
        if "network" in state:
            network, optimiser = self._fresh(self.number // self.settings.inner)
            network.load_state_dict(state["network"])
            optimiser.load_state_dict(state["sgd"])

    def _begin(self, number: int) -> None:
        """Have the network of a step; where a new one begins, pixels are clamped and it may be trained ahead."""
        iteration, turn = divmod(number, self.settings.inner)
        if turn and self.network is not None:
            return
        self._fresh(iteration)
        self.images.clamp()
        for epoch in range(self.settings.early_epochs):
            self._train(iteration * self.settings.early_epochs + epoch, _EARLY, len(self.labels))

    def _fresh(self, iteration: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        settings, network = self.settings, self.networks(iteration)
        if network is self.network and self.optimiser is not None:  # with other weights; its graphs remain
            for state in self.optimiser.state.values():
                state["momentum_buffer"].zero_()
            return network, self.optimiser
        self.network = network
        self.optimiser = optimisers.sgd(settings.lr_net, weight_decay=settings.weight_decay)(network)
        self._classes = Steps(self._match_class, self.real.device)
        self._batch = Steps(self._train_batch, self.real.device, self.optimiser)
        return network, self.optimiser

    # Matching -----------------------------------------------------------------------------------------------------

    def _match(self, number: int) -> Tensor:
        images = self.images
        self.total.zero_()
        images.zero_grad()
        self._classes(self._draw(label, number) for label in range(images.classes))
        if not self.settings.step_per_class:
            images.optimiser.step()
        return self.total / images.classes

    def _draw(self, label: int, number: int) -> tuple[Any, ...]:
        """Draw the real images of a class, which decoded ones are seen, and the augmentation of both."""
        settings, generator = self.settings, make_generator(self.settings.seed, _VIEW, number + 1, label + 1)
        real, chosen = self.real_batch(label, number), self.images.draw_decoded(generator)
        drawn = draw_shared(self.real.shape[-1], generator, settings.strategy, "idc")
        return torch.tensor(label), real, chosen, drawn

    def _match_class(self, label: Tensor, *drawn: Any) -> None:
        images = self.images
        loss = self._class_loss(label, *drawn)
        loss.backward(inputs=[images.images])
        self.total += loss.detach()
        if self.settings.step_per_class:
            # Of the whole tensor: momentum moves the other classes too.
            images.optimiser.step()
            images.zero_grad()

    def _class_loss(self, label: Tensor, positions: Tensor, chosen: Sequence[Tensor], drawn: Sequence[Drawn]) -> Tensor:
        assert self.network is not None  # which the step began with
        synthetic = self.scaled(self.images.decoded(label, *chosen), self._unused)
        shown = [apply(x, drawn) for x in (self.real.at(positions), synthetic)]
        target = [layer.detach() for layer in self._seen(self.network, shown[0], label)]
        return distance(self.settings.metric, target, self._seen(self.network, shown[1], label, differentiable=True))

    def _seen(self, network: nn.Module, x: Tensor, label: Tensor, differentiable: bool = False) -> tuple[Tensor, ...]:
        """Return what is matched: gradients of the chosen parameters, or the mean feature."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.settings.match == "features":
            with autocast(self.settings.precision, x.device), kernels(), torch.set_grad_enabled(differentiable):
                return (network.embed(x).float().mean(0),)
        with autocast(self.settings.precision, x.device), kernels(), plain_attention():
            logits = network(x).float()
        loss = F.cross_entropy(logits, label.expand(len(x)))
        return tuple(torch.autograd.grad(loss, self._matched(network), create_graph=differentiable))

    def _matched(self, network: nn.Module) -> list[nn.Parameter]:
        return matched(network, biases=self.settings.biases, classifier=self.settings.classifier)

    def real_batch(self, label: int, number: int) -> Tensor:
        """Return the positions of a class's batch in inner step ``number``: the next of a shuffled pass, none short."""
        members = self.real.members(label)
        size = min(self.settings.batch_real, len(members))
        turn, place = divmod(number, len(members) // size)
        order = torch.randperm(len(members), generator=make_generator(self.settings.seed, _CLASS, label + 1, turn + 1))
        return members[order[place * size : (place + 1) * size]]

    # Training of the network --------------------------------------------------------------------------------------

    def _train(self, number: int, stream: int, count: int) -> None:
        """Train on ``count`` real images (up to whole batches) in random order, with CutMix."""
        seed = self.settings.seed
        with seeded(seed, stream, number + 1, _DROPOUT):
            self._batch(self._batches(count, make_generator(seed, stream, number + 1)))

    def _batches(self, count: int, generator: torch.Generator) -> Iterator[tuple[Any, ...]]:
        """Draw batches: augmentation and mixing, positions in the training split, labels, places among all images."""
        if not count:
            return
        size = self.settings.batch_real
        for chosen in torch.randperm(len(self.labels), generator=generator)[: -(-count // size) * size].split(size):
            shape = (len(chosen), *self.real.shape)
            drawn, mixed = self.augment.draw(shape, generator), self.loss.draw(shape, generator)
            yield drawn, mixed, self.everything[chosen], self.labels[chosen], chosen

    def _train_batch(
        self, drawn: tuple[Any, ...], mixed: tuple[Any, ...], positions: Tensor, labels: Tensor, chosen: Tensor
    ) -> None:
        network, optimiser = self.network, self.optimiser
        assert network is not None and optimiser is not None
        x = self.augment.apply(self.real.at(positions), *drawn)
        batch = Batch(x.contiguous(memory_format=torch.channels_last), labels, chosen)
        with autocast(self.settings.precision, x.device), kernels():
            (loss,) = answered([self.loss.asking(batch, *mixed)], lambda images: [network(images[0])])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def matched(network: nn.Module, *, biases: bool, classifier: bool) -> list[nn.Parameter]:
    """Return the parameters whose gradients are matched: those of convolutions, and what is asked for beside them.

    Raises:
        UsageError: there are none.
    """
    sizes = {4, *([1] if biases else []), *([2] if classifier else [])}
    if found := [parameter for parameter in network.parameters() if parameter.ndim in sizes]:
        return found
    raise ddbench.UsageError(
        "The network has no convolutions whose gradients could be matched.",
        hint="Choose one that has, e.g. -o method.network=convnet-3, or -o method.classifier=true.",
    )
