"""Optimisers of the protocols, as factories: ``factory(network) -> Optimizer`` (fused kernels)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

OptimiserFactory = Callable[[nn.Module], torch.optim.Optimizer]
Decay = Literal["matrices", "all"]


def sgd(
    lr: float, *, momentum: float = 0.9, weight_decay: float = 5e-4, nesterov: bool = False, decay: Decay = "all"
) -> OptimiserFactory:
    """SGD with momentum; with "matrices", weight decay acts only on what :func:`split_decay` names."""
    return _factory(torch.optim.SGD, lr, weight_decay, decay, momentum=momentum, nesterov=nesterov)


def adam(lr: float, *, weight_decay: float = 0.0, decay: Decay = "all") -> OptimiserFactory:
    """Adam, weight decay as an L2 penalty."""
    return _factory(torch.optim.Adam, lr, weight_decay, decay)


def adamw(lr: float = 0.001, *, weight_decay: float = 0.01, decay: Decay = "matrices") -> OptimiserFactory:
    """AdamW (0.9, 0.999); with "matrices", as RDED and SRe2L decay."""
    return _factory(torch.optim.AdamW, lr, weight_decay, decay)


#: By the names of options.
OPTIMISERS: dict[str, Callable[..., OptimiserFactory]] = {"sgd": sgd, "adam": adam, "adamw": adamw}


def _factory(kind: Any, lr: float, weight_decay: float, decay: Decay, **settings: Any) -> OptimiserFactory:
    def make(network: nn.Module) -> torch.optim.Optimizer:
        groups = split_decay(network) if decay == "matrices" else (list(network.parameters()), [])
        decays = zip(groups, (weight_decay, 0.0), strict=True)
        decayed = [{"params": parameters, "weight_decay": value} for parameters, value in decays if parameters]
        optimiser: torch.optim.Optimizer = kind(decayed, lr, fused=True, **settings)
        return optimiser

    return make


def split_decay(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters (with, without) weight decay: with, if named "weight" and of more than one dimension."""
    with_decay: list[nn.Parameter] = []
    without: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (with_decay if "weight" in name and parameter.ndim > 1 else without).append(parameter)
    return with_decay, without
