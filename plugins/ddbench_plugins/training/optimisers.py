"""Optimisers of the protocols, as factories: ``factory(network) -> Optimizer`` (fused kernels)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

OptimiserFactory = Callable[[nn.Module], torch.optim.Optimizer]
Decay = Literal["matrices", "all"]


def sgd(
    lr: float,
    *,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    nesterov: bool = False,
    decay: Decay = "all",
) -> OptimiserFactory:
    """SGD with momentum; with "matrices", weight decay acts only on what :func:`split_decay` says."""

    def make(network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            _groups(network, weight_decay, decay), lr, momentum=momentum, nesterov=nesterov, fused=True
        )

    return make


def adam(lr: float, *, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)) -> OptimiserFactory:
    """Adam on all parameters, weight decay as an L2 penalty."""

    def make(network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), lr, betas=betas, weight_decay=weight_decay, fused=True)

    return make


def adamw(
    lr: float = 0.001,
    *,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    decay: Decay = "matrices",
) -> OptimiserFactory:
    """AdamW; with "matrices", weight decay acts only on parameters that RDED and SRe2L decay (:func:`split_decay`)."""

    def make(network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(_groups(network, weight_decay, decay), lr, betas=betas, fused=True)

    return make


def _groups(network: nn.Module, weight_decay: float, decay: Decay) -> list[dict[str, Any]]:
    groups = split_decay(network) if decay == "matrices" else (list(network.parameters()), [])
    return [{"params": p, "weight_decay": d} for p, d in zip(groups, (weight_decay, 0.0), strict=True) if p]


def split_decay(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters (with, without) weight decay: with, if named "weight" and of more than one dimension."""
    with_decay: list[nn.Parameter] = []
    without: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (with_decay if "weight" in name and parameter.ndim > 1 else without).append(parameter)
    return with_decay, without
