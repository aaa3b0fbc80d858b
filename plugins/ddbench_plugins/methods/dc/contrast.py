"""Matching one gradient of all classes (Lee et al. 2022, main.py), in which only what tells them apart is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.matching.distances import distance
from ddbench_plugins.methods.dc.matching import _MATCHING, GradientMatching
from ddbench_plugins.training.dsa import apply
from ddbench_plugins.training.graphs import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from ddbench_plugins.training.dsa import Drawn


class ContrastiveMatching(GradientMatching):
    """DC's steps; from ``warmup_outer`` of each network on, and all those of networks from ``warmup_iterations`` on:
    D(1/K Σ over classes real gradient, gradient of all synthetic images in one batch)."""

    def __init__(self, *parts: Any, warmup_iterations: int, warmup_outer: int) -> None:
        super().__init__(*parts)
        self.warmup_iterations, self.warmup_outer = warmup_iterations, warmup_outer

    def use(self, network: nn.Module) -> None:
        """Begin with a network, as :class:`GradientMatching` does."""
        if network is not self.network:
            super().use(network)
            self._contrast = Steps(self._match_contrast, self.real.device, captured=not self.settings.strategy)

    def _backward(self, number: int) -> Tensor:
        iteration, turn = divmod(number, self.settings.outer)
        if iteration < self.warmup_iterations and turn < self.warmup_outer:
            return super()._backward(number)
        settings = self.settings
        self._contrast([self._draw(number, _MATCHING, settings.batch_real, settings.strategy)])
        return self.total.double()

    def _match_contrast(
        self, labels: Sequence[Tensor], positions: Sequence[Tensor], drawn: Sequence[Sequence[Drawn]]
    ) -> None:
        target = [torch.zeros_like(parameter) for parameter in self.parameters]
        shown = []
        for label, real, each in zip(labels, self.real.each_at(positions), drawn, strict=True):
            gradients = self._real_gradients(apply(real, each), label)
            torch._foreach_add_(target, gradients, alpha=1 / self.images.classes)
            shown.append(apply(self.images.of_class(label), each))
        joint = self._gradients(torch.cat(shown), self.images.labels, differentiable=True)
        loss = distance(self.settings.metric, target, joint)
        loss.backward(inputs=[self.images.images])
        self.total += loss.detach()
