"""DWA's directed weight adjustment: the teacher climbs its loss on the images before they are recovered.

Du et al. 2024 (distillation/perterb.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn


class AdjustedWeights:
    """The weights of a teacher, which are adjusted in place and put back.

    Args:
        network: the teacher, frozen.
        steps: of normalised gradient ascent (K).
        radius: length of all steps together (ρ), a norm over all weights.
    """

    def __init__(self, network: nn.Module, steps: int, radius: float) -> None:
        self.weights, self.steps, self.radius = list(network.parameters()), steps, radius
        self.original = self.state()

    def climb(self, loss: Callable[[], Tensor], images: Sequence[Tensor]) -> list[Tensor]:
        """Adjust the weights to the loss, and return the sum of its gradients by the images on the way."""
        sums = [torch.zeros_like(part) for part in images]
        for _ in range(self.steps):
            for weight in self.weights:
                weight.requires_grad_(True)
            found = torch.autograd.grad(loss(), [*images, *self.weights])
            gradients = found[len(images) :]
            length = torch.stack([gradient.norm() for gradient in gradients]).norm().clamp(min=1e-12)
            with torch.no_grad():
                for weight, gradient in zip(self.weights, gradients, strict=True):
                    weight.requires_grad_(False).add_(gradient * (self.radius / self.steps / length))
                for total, gradient in zip(sums, found, strict=False):
                    total += gradient
        return sums

    def reset(self) -> None:
        """Put the original weights back."""
        self.restore(self.original)

    def state(self) -> list[Tensor]:
        """Return the weights as they are now."""
        return [weight.detach().clone() for weight in self.weights]

    def restore(self, state: Sequence[Tensor]) -> None:
        """Put weights back."""
        with torch.no_grad():
            for weight, value in zip(self.weights, state, strict=True):
                weight.copy_(value)
