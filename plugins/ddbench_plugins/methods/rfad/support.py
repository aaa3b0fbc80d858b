"""What RFAD learns: images behind a shared linear map, labels, and the scale of the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.methods.kernel.support import Support
from ddbench_plugins.methods.rfad.adabelief import AdaBelief

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rates:
    """Learning rates of the pixels and labels, of the linear map (0: there is none), and of the logits' scale."""

    lr_img: float
    lr_transform: float
    lr_scale: float


class TransformedSupport(Support):
    """Images that are the product of what is learned for each, flattened, and a matrix that is learned for all.

    Attributes:
        transform: [d, d], at first the identity; None without.
        scale: logarithm of what predictions are multiplied by to be logits.
        best: images and targets that are the result, if some were kept; else the present ones are.
    """

    def __init__(self, images: Tensor, ipc: int, rates: Rates, *, learn_labels: bool) -> None:
        size = images[0].numel()
        self.transform = torch.eye(size, device=images.device, requires_grad=True) if rates.lr_transform else None
        self.scale = torch.zeros((), device=images.device, requires_grad=True)

        def optimiser(learned: list[Tensor]) -> AdaBelief:
            groups = [{"params": learned}, {"params": [self.scale], "lr": rates.lr_scale}]
            shared = [] if self.transform is None else [{"params": [self.transform], "lr": rates.lr_transform}]
            return AdaBelief([*groups, *shared], rates.lr_img)

        super().__init__(images, ipc, optimiser, learn_labels=learn_labels)
        self.best: tuple[Tensor, Tensor] | None = None

    @property
    def decoded(self) -> Tensor:
        """The images [n, C, S, S] that networks see; differentiable."""
        if self.transform is None:
            return self.images
        return (self.images.flatten(1) @ self.transform).view_as(self.images)

    def keep(self) -> None:
        """Make the present images and targets the result."""
        self.best = self.decoded.detach().clone(), self.targets.detach().clone()

    @property
    def shown(self) -> Tensor:
        """The images that are the result."""
        return self.best[0] if self.best else self.decoded.detach()

    @property
    def shown_targets(self) -> Tensor:
        """The targets that are the result."""
        return self.best[1] if self.best else self.targets.detach()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        shared = {} if self.transform is None else {"transform": self.transform.detach().cpu()}
        best = [tensor.cpu() for tensor in self.best or ()]
        return super().state() | shared | {"scale": self.scale.detach().cpu(), "best": best}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        self.best = tuple(tensor.to(self.images.device) for tensor in state["best"]) or None
        with torch.no_grad():
            self.scale.copy_(state["scale"])
            if self.transform is not None:
                self.transform.copy_(state["transform"])
