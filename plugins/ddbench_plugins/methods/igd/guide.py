"""IGD's guidance: to images that train a classifier as real ones do, and away from earlier ones of the class.

Chen et al. 2025, as released: both steps are added to the sample of an ordinary step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ddbench_plugins.diffusion.ancestral import Guide

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ddbench_plugins.diffusion.ancestral import Moment

#: The step by influence at k = 1, in units of the noise that is predicted.
RATE = 0.0015
#: Keeps gradients of nothing from dividing by zero.
TINY = 1e-20


class Influence(Guide):
    """Leads images in the steps ``low`` to ``high``, both included.

    Args:
        loss: of clean latents [n, C, h, w] of the images ``rows``, [n]; differentiable.
        memory: clean latents of earlier images of each image's class, [N, m, C, h, w].
        weight, deviation: k and γ.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, slice], Tensor],
        memory: Tensor,
        weight: float,
        deviation: float,
        low: int,
        high: int,
    ) -> None:
        self._loss, self._memory, self._weight, self._deviation = loss, memory, weight, deviation
        self._low, self._high = low, high
        self.differentiates = weight > 0

    def acts(self, index: int) -> bool:
        """Return whether the step is in the window."""
        return self._low <= index <= self._high

    def added(self, moment: Moment, rows: slice) -> Tensor:
        """Return the steps −γ·∇cos and −k·ρ·∇loss."""
        noisy = moment.noisy.detach()
        total = torch.zeros_like(noisy)
        if self._deviation and self._memory.shape[1]:
            total -= self._deviation * similarity_gradient(noisy, self._memory[rows].to(noisy))
        if self._weight:
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(self._loss(moment.clean, rows).sum(), moment.noisy)
            rate = RATE * moment.amount * _size(moment.noise.detach()) / _size(gradient).clamp(min=TINY)
            total -= self._weight * rate * gradient
        return total


def similarity_gradient(latents: Tensor, memory: Tensor) -> Tensor:
    """Return the gradient of the largest cosine of latents [n, …] and any of their memory [n, m, …] by the latents."""
    flat, kept = latents.flatten(1), memory.flatten(2)
    cosines = F.cosine_similarity(flat[:, None], kept, dim=2)
    most, place = cosines.max(1, keepdim=True)
    nearest = F.normalize(kept[torch.arange(len(kept)), place[:, 0]], dim=1)
    length = flat.norm(dim=1, keepdim=True)
    return ((nearest - most * flat / length) / length).view_as(latents)


def _size(values: Tensor) -> Tensor:
    """Return the root mean square of each image's values [n, …], [n, 1, 1, 1]."""
    return values.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)
