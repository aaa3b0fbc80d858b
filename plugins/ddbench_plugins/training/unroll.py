"""Steps of SGD, and the exact gradient of what comes out of them by what went in, in the memory of one step's graph.

The weights of every step are kept; on the way back each step's loss is computed again, and the second derivatives of
that alone are taken. The same gradient as of a graph of all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from ddbench_plugins.networks.native import plain_attention

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[[int, "Tensor", Sequence["Tensor"]], "Tensor"]
"""Loss of a step (from 0) with weights [P] and what is learned; the same whenever it is asked for."""


class Gradients(NamedTuple):
    """Gradients by what is learned, by the learning rates [T] and by the first weights [P]."""

    learned: tuple[Tensor, ...]
    rates: Tensor
    start: Tensor


class Unroll:
    """As many steps from weights ``start`` [P] as there are ``rates`` [T]; the last weights are ``end``.

    v ← momentum · v + gradient, weights ← weights − rate · v, as :class:`torch.optim.SGD`.
    """

    def __init__(
        self, loss: Loss, start: Tensor, learned: Sequence[Tensor], rates: Tensor, momentum: float = 0.0
    ) -> None:
        self.loss, self.learned, self.momentum = loss, [tensor.detach() for tensor in learned], momentum
        self.rates = rates.detach()
        self.weights, self.velocities = [start.detach()], []
        velocity = torch.zeros_like(start)
        for number, step in enumerate(self.rates):
            at = self.weights[-1].clone().requires_grad_()
            with plain_attention():
                (gradient,) = torch.autograd.grad(loss(number, at, self.learned), at)
            velocity = momentum * velocity + gradient
            self.velocities.append(velocity)
            self.weights.append(self.weights[-1] - step * velocity)

    @property
    def end(self) -> Tensor:
        """The last weights [P], without a graph."""
        return self.weights[-1]

    def gradients(self, by_end: Tensor) -> Gradients:
        """Return the gradients of a number, given its gradient [P] by :attr:`end`."""
        by_weights, by_velocity = by_end, torch.zeros_like(by_end)
        learned = [tensor.clone().requires_grad_() for tensor in self.learned]
        totals, rates = [torch.zeros_like(tensor) for tensor in learned], torch.zeros_like(self.rates)
        for number in range(len(self.rates) - 1, -1, -1):
            rates[number] = -torch.dot(self.velocities[number], by_weights)
            by_velocity = by_velocity - self.rates[number] * by_weights
            at = self.weights[number].clone().requires_grad_()
            with plain_attention():
                (gradient,) = torch.autograd.grad(self.loss(number, at, learned), at, create_graph=True)
            parts = torch.autograd.grad(gradient, [at, *learned], by_velocity, materialize_grads=True)
            by_weights = by_weights + parts[0]
            for total, part in zip(totals, parts[1:], strict=True):
                total += part
            by_velocity = self.momentum * by_velocity
        return Gradients(tuple(totals), rates, by_weights)
