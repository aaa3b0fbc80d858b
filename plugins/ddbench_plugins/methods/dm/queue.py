"""Networks in training, of which one matches in each step (IDM, IDM_cifar10.py)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F

from ddbench_plugins.methods.dm.matching import DistributionMatching
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training import optimisers
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.runtime import Precision, autocast
from ddbench_plugins.training.seeding import make_generator, seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor, nn

    from ddbench_plugins.matching.images import RealImages

_CHOICE, _BATCH, _DROPOUT = 1, 2, 3


@dataclass(frozen=True)
class Queue:
    """How many networks there are and how they are trained; see the options of the method."""

    queue: int
    begin: int
    push_every: int
    trained: int
    train_steps: int
    batch_train: int
    lr_net: float
    precision: Precision
    seed: int


class Member:
    """A network in training, and how many of the images it was trained on it named right at that time."""

    def __init__(self, number: int, network: nn.Module, lr: float) -> None:
        self.number, self.network = number, network
        self.optimiser = optimisers.sgd(lr)(network)
        self.right = torch.zeros((), device=next(network.parameters()).device)
        self.seen = 0

    @property
    def percent(self) -> Tensor:
        """The share of them in percent; 0 before the first."""
        return 100 * self.right / max(1, self.seen)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        kept = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        return {**kept, "number": self.number, "right": self.right, "seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.right, self.seen = state["right"].to(self.right.device), state["seen"]


class NetworkQueue:
    """The networks, oldest first."""

    def __init__(self, networks: Callable[[int], nn.Module], real: RealImages, how: Queue) -> None:
        self.networks, self.real, self.how = networks, real, how
        self.everything = torch.cat([real.members(label) for label in range(real.classes)])
        self.labels = torch.cat([torch.full((len(real.members(c)),), c) for c in range(real.classes)])
        self.members = deque[Member](maxlen=how.queue)
        self.made = 0
        for _ in range(min(how.begin, how.queue)):
            self._push()

    def at(self, step: int) -> Member:
        """Return the network that matches in a step, before which a new one may enter."""
        if step and step % self.how.push_every == 0:
            self._push()
        generator = make_generator(self.how.seed, _CHOICE, step + 1)
        return self.members[int(torch.randint(len(self.members), (), generator=generator))]

    def train(self, step: int) -> None:
        """Train some of the networks, different ones, on random real images."""
        generator = make_generator(self.how.seed, _BATCH, step + 1)
        with seeded(self.how.seed, _DROPOUT, step + 1):
            for place in torch.randperm(len(self.members), generator=generator)[: self.how.trained].tolist():
                member = self.members[place]
                for _ in range(self.how.train_steps):
                    self._step(member, generator)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"made": self.made, "members": [member.state() for member in self.members]}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.made = state["made"]
        self.members.clear()
        for kept in state["members"]:
            self.members.append(self._member(kept["number"]))
            self.members[-1].restore(kept)

    def _push(self) -> None:
        self.members.append(self._member(self.made))
        self.made += 1

    def _member(self, number: int) -> Member:
        return Member(number, self.networks(number), self.how.lr_net)

    def _step(self, member: Member, generator: Generator) -> None:
        chosen = torch.randperm(len(self.labels), generator=generator)[: self.how.batch_train]
        x = self.real.at(self.everything[chosen]).contiguous(memory_format=torch.channels_last)
        labels = moved(self.labels[chosen], x.device)
        with autocast(self.how.precision, x.device), kernels():
            logits = member.network.train()(x).float()
        loss = F.cross_entropy(logits, labels)
        member.optimiser.zero_grad()
        loss.backward()
        member.optimiser.step()
        member.right += (logits.detach().argmax(1) == labels).sum()
        member.seen += len(labels)


class QueueMatching(DistributionMatching):
    """DM's step in a network of the queue, which also names the synthetic images; then some are trained."""

    graphs: ClassVar[bool] = False

    def __init__(self, *parts: Any) -> None:
        *parents, self.queue, self.ce_weight = parts
        super().__init__(*parents)
        self.member: Member | None = None

    def step(self, number: int) -> Tensor:
        """Do one step and return the loss, summed over classes."""
        self.member = self.queue.at(number)
        loss = super().step(number)
        self.queue.train(number)
        return loss

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"queue": self.queue.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        self.queue.restore(state["queue"])

    def _network(self, number: int) -> nn.Module:
        assert self.member is not None  # chosen at the beginning of the step
        return self.member.network.eval()

    def _besides(self, network: Any, labels: Sequence[int], features: Sequence[Tensor]) -> Tensor | float:
        if not self.ce_weight or self.member is None:
            return 0.0
        named = [
            F.cross_entropy(network.head(rows), torch.full((len(rows),), label, device=rows.device))
            for label, rows in zip(labels, features, strict=True)
        ]
        return self.ce_weight * self.member.percent * torch.stack(named).sum()
