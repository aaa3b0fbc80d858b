"""Steps of an expert towards flat places: FTD's perturbed gradient (Du et al. 2023, buffer/gsam/gsam.py).

That is GSAM (Zhuang et al. 2022), in its adaptive form (Kwon et al. 2021) by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.training.steps import hard_label_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Generator, Tensor

    from ddbench_plugins.training.steps import Batch, Step

#: Keeps norms of zero gradients from dividing by zero.
TINY = 1e-12


def flat_step(rho: float, alpha: float, adaptive: bool = True) -> Step:
    """Cross-entropy whose gradient is that at a perturbed point, less a part of what is perpendicular to it.

    The weights p are perturbed by e of :func:`perturbation`; of the gradients g at p and g_p at p + e, an optimiser is
    given :func:`direction`. Both see the same batch, which was augmented once. The value is the loss at p.
    """
    plain = hard_label_step()

    def step(network: Any, batch: Batch, generator: Generator) -> Tensor:
        parameters = list(network.parameters())
        loss = plain(network, batch, generator)
        here, weights = vector(torch.autograd.grad(loss, parameters)), vector(parameters).detach()
        _set(parameters, weights + perturbation(weights, here, rho, adaptive))
        there = vector(torch.autograd.grad(plain(network, batch, generator), parameters))
        _set(parameters, weights)
        along = torch.dot(vector(parameters), direction(here, there, alpha))  # whose gradient is this direction
        return along - along.detach() + loss.detach()

    return step


def perturbation(weights: Tensor, gradient: Tensor, rho: float, adaptive: bool) -> Tensor:
    """Return e [P]: ρ·g/‖g‖, or where adaptive ρ·p²⊙g / ‖|p|⊙g‖."""
    scale = weights.abs() if adaptive else torch.ones_like(weights)
    return rho * scale.square() * gradient / ((scale * gradient).norm() + TINY)


def direction(here: Tensor, there: Tensor, alpha: float) -> Tensor:
    """Return g_p − α·(the part of g that is perpendicular to g_p), for gradients g and g_p [P]."""
    unit = there / (there.norm() + TINY)
    return there - alpha * (here - torch.dot(here, unit) * unit)


def vector(tensors: Iterable[Tensor]) -> Tensor:
    """Return tensors as one vector [P]."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@torch.no_grad()
def _set(parameters: Sequence[Tensor], values: Tensor) -> None:
    for parameter, part in zip(parameters, values.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(part.view(parameter.shape))
