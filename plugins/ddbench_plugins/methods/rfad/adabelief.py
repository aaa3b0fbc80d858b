"""AdaBelief, which PyTorch does not have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class AdaBelief(torch.optim.Optimizer):
    """AdaBelief without rectification or weight decay (Zhuang et al., NeurIPS 2020, as torch-optimizer has it)."""

    def __init__(self, tensors: Iterable[Any], lr: float, eps: float = 1e-16) -> None:
        super().__init__(tensors, {"lr": lr, "betas": (0.9, 0.999), "eps": eps})

    @torch.no_grad()
    def step(self) -> None:
        """Change every tensor that has a gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for tensor in (tensor for tensor in group["params"] if tensor.grad is not None):
                state, gradient = self.state[tensor], tensor.grad
                if not state:
                    state |= {"step": 0, "mean": torch.zeros_like(gradient), "surprise": torch.zeros_like(gradient)}
                state["step"] += 1
                mean = state["mean"].lerp_(gradient, 1 - first)
                surprise = state["surprise"].lerp_((gradient - mean).square(), 1 - second).add_(group["eps"])
                spread = (surprise / (1 - second ** state["step"])).sqrt() + group["eps"]
                tensor.sub_(group["lr"] / (1 - first ** state["step"]) * mean / spread)
