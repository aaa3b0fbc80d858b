"""The networks whose features are regressed on: a few, each trained on the images now and then, and then replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor, nn

#: Images that a network is trained on at once; of more, a random choice.
TOGETHER = 1000


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ½ Σ over classes of the squared difference, mean over images."""
    return (outputs - targets).square().sum(1).mean() / 2


class Pool:
    """``size`` networks of different age, as if the first had been trained on nothing and the last almost for life.

    Attributes:
        networks: as ``make`` returns them for 0, 1, …: one number for each that is ever made.
        ages: how often each was trained; at first only as many numbers, so that not all are replaced at once.
    """

    def __init__(self, make: Callable[[int], nn.Module], size: int, updates: int, lr: float) -> None:
        self.make, self.updates, self.lr = make, updates, lr
        self.born = 0
        self.networks: list[nn.Module] = []
        self.optimisers: list[torch.optim.Optimizer] = []
        for _ in range(size):
            network, optimiser = self._new()
            self.networks.append(network)
            self.optimisers.append(optimiser)
        self.ages = [updates // size * place for place in range(size)]

    def update(self, place: int, images: Tensor, targets: Tensor, generator: Generator, autocast: Any) -> None:
        """Train a network once on images and targets, or replace it if that was done ``updates`` + 1 times."""
        if self.ages[place] > self.updates:
            self.networks[place], self.optimisers[place] = self._new()
            self.ages[place] = 0
            return
        if len(images) > TOGETHER:
            chosen = torch.randperm(len(images), generator=generator)[:TOGETHER].to(images.device)
            images, targets = images[chosen], targets[chosen]
        network, optimiser = self.networks[place].train(), self.optimisers[place]
        with autocast:
            loss = squared_error(network(images.contiguous(memory_format=torch.channels_last)).float(), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        self.ages[place] += 1

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            "born": self.born,
            "ages": list(self.ages),
            "networks": [network.state_dict() for network in self.networks],
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.born, self.ages = state["born"], list(state["ages"])
        for network, kept in zip(self.networks, state["networks"], strict=True):
            network.load_state_dict(kept)
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)

    def _new(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        network = self.make(self.born)
        self.born += 1
        return network, torch.optim.Adam(network.parameters(), self.lr, fused=True)
