"""Matching one gradient of all classes (Lee et al. 2022, main.py), in which only what tells them apart is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.matching.distances import distance
from ddbench_plugins.methods.dc.matching import GradientMatching

if TYPE_CHECKING:
    from torch import Tensor, nn


class ContrastiveMatching(GradientMatching):
    """DC's steps; from ``warmup_outer`` of each network on, and all those of networks from ``warmup_iterations`` on:
    D(1/K Σ over classes real gradient, gradient of all synthetic images in one batch)."""

    def __init__(self, *parts: Any, warmup_iterations: int, warmup_outer: int) -> None:
        super().__init__(*parts)
        self.warmup_iterations, self.warmup_outer = warmup_iterations, warmup_outer

    def _backward(self, network: nn.Module, parameters: list[Tensor], number: int) -> Tensor:
        iteration, turn = divmod(number, self.settings.outer)
        if iteration < self.warmup_iterations and turn < self.warmup_outer:
            return super()._backward(network, parameters, number)
        target = [torch.zeros_like(parameter) for parameter in parameters]
        shown = []
        for label, view, real in self._batches(number):
            gradients = self._real_gradients(network, parameters, view(real), label)
            torch._foreach_add_(target, gradients, alpha=1 / self.images.classes)
            shown.append(view(self.images.of_class(label)))
        joint = self._gradients(network, parameters, torch.cat(shown), self.images.labels, differentiable=True)
        loss = distance(self.settings.metric, target, joint)
        loss.backward(inputs=[self.images.images])
        return loss.detach().double()
