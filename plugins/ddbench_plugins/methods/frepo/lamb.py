"""LAMB, which PyTorch does not have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """LAMB without weight decay, as Optax has it (You et al., ICLR 2020): Adam's direction, and steps of lr · ‖tensor‖.

    The norms are those of whole tensors; where one is 0, the step is Adam's.
    """

    def __init__(self, tensors: Iterable[Tensor], lr: float, eps: float = 1e-6) -> None:
        super().__init__(tensors, {"lr": lr, "betas": (0.9, 0.999), "eps": eps})

    @torch.no_grad()
    def step(self) -> None:
        """Change every tensor that has a gradient."""
        for group in self.param_groups:
            for tensor in (tensor for tensor in group["params"] if tensor.grad is not None):
                update = _adam_direction(self.state[tensor], tensor.grad, group)
                size, length = tensor.norm(), update.norm()
                ratio = torch.where((size > 0) & (length > 0), size / length, 1.0)
                tensor.sub_(group["lr"] * ratio * update)


def _adam_direction(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor:
    first, second = group["betas"]
    if not state:
        state |= {"step": 0, "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
    state["step"] += 1
    mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first ** state["step"])
    square = state["square"].lerp_(gradient.square(), 1 - second) / (1 - second ** state["step"])
    return mean / (square.sqrt() + group["eps"])
