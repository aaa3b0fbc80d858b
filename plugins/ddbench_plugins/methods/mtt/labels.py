"""Labels that are learned with the images, and beginning with what experts know (Guo et al. 2024, DATM.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import ddbench
from ddbench_plugins.methods.mtt.matching import ImagesWithRate
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.mtt.experts import Experts
    from ddbench_plugins.methods.mtt.trajectories import FlatNetwork

LABEL_MOMENTUM = 0.9
#: Images that go through an expert at once.
TOGETHER = 256


class ImagesWithLabels(ImagesWithRate):
    """Such images with logits [N, K], optimised too, whose softmax are their labels."""

    def __init__(self, *settings: Any, logits: Tensor, lr_label: float, **rate: Any) -> None:
        super().__init__(*settings, **rate)
        self.logits = logits.detach().clone().requires_grad_()
        self.label_optimiser = torch.optim.SGD([self.logits], lr_label, momentum=LABEL_MOMENTUM)

    def learned(self) -> tuple[Tensor, ...]:
        """Return what inner losses depend on: the images [N, C, S, S] and the logits [N, K]."""
        return (*super().learned(), self.logits.detach())

    def targets(self, chosen: Tensor, *others: Tensor) -> Tensor:
        """Return the probabilities [B, K] of chosen images."""
        (logits,) = others
        return logits[chosen].softmax(1)

    def update(self, gradients: Sequence[Tensor], by_rate: Tensor) -> None:
        """Make a step of all optimisers with the gradients of images and logits, and of the rate."""
        super().update(gradients, by_rate)
        self.logits.grad = gradients[1]
        self.label_optimiser.step()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        labels = {"logits": self.logits.detach().cpu(), "label_optimiser": self.label_optimiser.state_dict()}
        return super().state() | labels

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self.label_optimiser.load_state_dict(state["label_optimiser"])

    def distilled(self, space: str = "unit", **fields: Any) -> ddbench.DistilledSet:
        """Return images and learning rate with the probabilities as soft labels."""
        soft = self.logits.detach().softmax(1).cpu().numpy()
        return super().distilled(space, soft_labels=soft, **fields)


def recognised(real: RealImages, ipc: int, experts: Experts, network: FlatNetwork, seed: int) -> Tensor:
    """Return positions int64 [K·ipc], class by class, of random training images that an expert classifies correctly.

    The first expert at its end judges; where it knows too few of a class, the next one judges the rest, and so on.

    Raises:
        UsageError: all experts together know too few images of a class.
    """
    positions = []
    for label in range(real.classes):
        members = real.members(label)
        left = members[torch.randperm(len(members), generator=make_generator(seed, label + 1))]
        chosen = left[:0]
        for number in range(len(experts)):
            wrong = left[:0]
            for part in left.split(TOGETHER):
                if len(chosen) >= ipc:
                    break
                right = judged(real.at(part), number, experts, network).argmax(1).cpu() == label
                chosen, wrong = torch.cat([chosen, part[right]]), torch.cat([wrong, part[~right]])
            left = wrong
        if len(chosen) < ipc:
            raise ddbench.UsageError(
                f"The experts classify {len(chosen)} images of class {label} correctly, fewer than IPC {ipc}.",
                hint="Train them longer (-o method.train_epochs=…), or begin with any images (-o method.init=real).",
            )
        positions.append(chosen[:ipc])
    return torch.cat(positions)


def expert_logits(images: Tensor, experts: Experts, network: FlatNetwork, count: int | None = None) -> Tensor:
    """Return the mean logits [N, K] of images, class by class, over the experts that are right, at their end.

    An image that none of them knows gets the mean over all. All experts are asked, or the first ``count``.
    """
    asked = min(count or len(experts), len(experts))
    every = torch.stack([judged(images, number, experts, network) for number in range(asked)])
    classes = every.shape[2]
    labels = torch.arange(classes, device=images.device).repeat_interleave(len(images) // classes)
    right = (every.argmax(2) == labels).float()
    weights = torch.where(right.sum(0) > 0, right, 1.0)
    return (every * weights[..., None]).sum(0) / weights.sum(0)[:, None]


@torch.no_grad()
def judged(images: Tensor, number: int, experts: Experts, network: FlatNetwork) -> Tensor:
    """Return an expert's logits [N, K], at its end, of normalised images [N, C, S, S]."""
    parameters = experts.at(number, experts.epochs)
    return torch.cat([network.logits(parameters, part) for part in images.split(TOGETHER)])
