"""The images that are optimised: how they begin, their optimiser, their checkpoint, and the set they become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ddbench import DistilledSet
from ddbench_plugins.training.pixels import finite
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.matching.real_batches import RealImages

Init = Literal["noise", "real"]
MOMENTUM = 0.5


def initial_images(real: RealImages, ipc: int, init: Init, seed: int) -> Tensor:
    """Return float32 [K·ipc, C, S, S], class by class, normalised: N(0, 1), or random training images of the class."""
    if init == "noise":
        return torch.randn((real.classes * ipc, *real.shape), generator=make_generator(seed)).to(real.device)
    return torch.cat([real.draw(label, ipc, make_generator(seed, label + 1)) for label in range(real.classes)])


class SyntheticImages:
    """Images [K·ipc, C, S, S], class by class, with the SGD that changes them. Nothing is ever clamped."""

    def __init__(self, images: Tensor, ipc: int, lr: float, momentum: float = MOMENTUM) -> None:
        self.images = images.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.ipc = ipc
        self.labels = torch.arange(len(images) // ipc, device=images.device).repeat_interleave(ipc)
        self.optimiser = torch.optim.SGD([self.images], lr, momentum=momentum)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.images) // self.ipc

    def of_class(self, label: int) -> Tensor:
        """Return the images [ipc, C, S, S] of a class; gradients flow back into the whole."""
        return self.images[label * self.ipc : (label + 1) * self.ipc]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on here."""
        return {"images": self.images.detach().cpu(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        with torch.no_grad():
            self.images.copy_(state["images"])
        self.optimiser.load_state_dict(state["optimiser"])

    def distilled(self, space: str = "normalized", **fields: Any) -> DistilledSet:
        """Return the images as they are now, with the space they are in; ``fields`` are further ones of the set."""
        pixels = finite(self.images.detach()).cpu().permute(0, 2, 3, 1).contiguous().numpy()
        pixels = pixels.astype(np.float32, copy=True)
        return DistilledSet(pixels, self.labels.cpu().numpy().astype(np.int64), space=space, **fields)
