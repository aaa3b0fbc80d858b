"""Matching with each step, out and back, as one CUDA graph; what steps leave to each other is always in one place.

Graphs of autograd are not kept on the way out but worked out again on the way back: a third more arithmetic, and a
hundredth of the launches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.methods.mtt.trajectories import Gradient, Match, differentiable_step, follow
from ddbench_plugins.training.graphs import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench_plugins.methods.mtt.trajectories import InnerLoss


class ReplayedMatching:
    """:func:`ddbench_plugins.methods.mtt.trajectories.match` on a GPU, again and again.

    ``loss(parameters, *learned, *numbers)`` of a step; ``learned`` and the learning rate ``lr`` are changed in place.
    """

    def __init__(self, loss: InnerLoss, learned: Sequence[Tensor], lr: Tensor, gradient: Gradient) -> None:
        self.loss, self.learned, self.lr, self.gradient = loss, learned, lr, gradient
        self.path = torch.empty(0, device=lr.device)
        self.by_learned, self.by_lr = tuple(map(torch.zeros_like, learned)), torch.zeros_like(lr)

    def __call__(self, numbers: Sequence[tuple[Any, ...]], start: Tensor, target: Tensor) -> Match:
        """Train from ``start`` [P], one step for each of the numbers, and compare the end with ``target`` [P]."""
        if len(self.path) != len(numbers) + 1:
            self.path, self.back = start.new_empty(len(numbers) + 1, len(start)), torch.empty_like(start)
            self._out, self._home = (Steps(step, self.lr.device) for step in (self._step_out, self._step_home))
        steps = [(torch.tensor([place]), *drawn) for place, drawn in enumerate(numbers)]
        self.path[0].copy_(start)
        self._out(steps)
        scale, missing = (start - target).square().sum(), self.path[-1] - target
        self.back.copy_(2 * missing / scale)
        torch._foreach_zero_([*self.by_learned, self.by_lr])
        self._home(reversed(steps))
        return Match(missing.square().sum() / scale, self.by_learned, self.by_lr)

    def _of(self, numbers: Sequence[Any]) -> InnerLoss:
        return lambda parameters, *learned: self.loss(parameters, *learned, *numbers)

    def _step_out(self, place: Tensor, *numbers: Any) -> None:
        before = self.path.index_select(0, place).squeeze(0)
        after = follow([self._of(numbers)], before, self.learned, self.lr)[-1]
        self.path.index_copy_(0, place + 1, after[None])

    def _step_home(self, place: Tensor, *numbers: Any) -> None:
        """Carry the gradient of the loss by the parameters over a step, and add that by what is learned."""
        before = self.path.index_select(0, place).squeeze(0)
        step = differentiable_step(self._of(numbers), before, self.learned)
        along = torch.dot(step.gradient, self.back)
        earlier = (step.parameters,) if self.gradient == "unrolled" else ()
        second = torch.autograd.grad(along, (*step.learned, *earlier))
        for total, part in zip(self.by_learned, second, strict=False):
            total.sub_(self.lr * part)
        self.by_lr.sub_(along.detach())
        if earlier:
            self.back.sub_(self.lr * second[-1])
