"""A moving average of a network's weights, with which it is tested instead of its own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn


class AveragedWeights:
    """Follows the weights of a network in training; its buffers, such as running statistics, are its own.

    Args:
        network: begins the average.
        decay: share of the past in each step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.weights, self.decay = list(network.parameters()), decay
        self.averages = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Follow a step of the optimiser."""
        torch._foreach_lerp_(self.averages, [weight.detach() for weight in self.weights], 1 - self.decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Let the network have the averages inside the block, and its own weights again after it."""
        own = [weight.detach().clone() for weight in self.weights]
        self._give(self.averages)
        try:
            yield
        finally:
            self._give(own)

    @torch.no_grad()
    def _give(self, values: Sequence[Tensor]) -> None:
        for weight, value in zip(self.weights, values, strict=True):
            weight.copy_(value)

    @torch.no_grad()
    def restore(self, averages: Sequence[Tensor]) -> None:
        """Resume from a checkpoint of ``averages``."""
        for average, value in zip(self.averages, averages, strict=True):
            average.copy_(value)
