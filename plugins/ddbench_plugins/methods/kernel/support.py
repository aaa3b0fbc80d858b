"""What a kernel regression is made of: images with real-valued targets, both of which can be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.kernels.ridge import centred
from ddbench_plugins.matching.images import SyntheticImages
from ddbench_plugins.training.pixels import finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ddbench import DistilledSet


class Support(SyntheticImages):
    """Images, and targets [n, K] of their type: ``scale`` · (one-hot − 1/K), with the optimiser that changes them.

    ``optimiser`` makes it for the tensors that are learned: the images, and the targets with ``learn_labels``.
    """

    def __init__(
        self,
        images: Tensor,
        ipc: int,
        optimiser: Callable[[list[Tensor]], torch.optim.Optimizer],
        *,
        learn_labels: bool,
        scale: float = 1.0,
    ) -> None:
        super().__init__(images, ipc, 0.0)
        targets = scale * centred(self.labels, self.classes)
        self.targets = targets.to(images.dtype).requires_grad_(learn_labels)
        self.optimiser = optimiser([self.images, *([self.targets] if learn_labels else [])])

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"targets": self.targets.detach().cpu()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            self.targets.copy_(state["targets"])

    @property
    def shown_targets(self) -> Tensor:
        """The targets that are the result."""
        return self.targets.detach()

    def distilled(self, space: str = "normalized", **fields: Any) -> DistilledSet:
        """Return the images as they are now, with their labels where these are learned."""
        if self.targets.requires_grad:
            labels = finite(self.shown_targets, "the labels").float().cpu().numpy()
            fields |= {"soft_labels": labels, "label_kind": "centred"}
        return super().distilled(space, **fields)
