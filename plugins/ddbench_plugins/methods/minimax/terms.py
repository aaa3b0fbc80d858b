"""The minimax criterion: memories of real and of predicted latents, and what it asks of new predictions.

Gu et al. 2024, train_dit.py. For every class in a batch whose memories are not empty: its worst pair of prediction and
remembered real latent shall come nearer, and its closest pair of prediction and remembered prediction shall part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddbench_plugins.training.numbers import moved


class Memories:
    """The last ``capacity`` real latents and predictions of every class, the oldest dropped first."""

    def __init__(self, capacity: int, device: str = "cpu") -> None:
        self.capacity, self.device = capacity, device
        self.real: dict[int, Tensor] = {}
        self.made: dict[int, Tensor] = {}

    def push(self, label: int, real: Tensor, made: Tensor) -> None:
        """Remember flat latents [n, d] of a class; no gradient goes through them later."""
        for memory, new in ((self.real, real), (self.made, made)):
            kept = [memory[label]] if label in memory else []
            memory[label] = torch.cat([*kept, new.detach()])[-self.capacity :]

    def state_dict(self) -> dict[str, dict[int, Tensor]]:
        """Return the memories for a checkpoint."""
        return {
            name: {label: kept.cpu() for label, kept in memory.items()}
            for name, memory in (("real", self.real), ("made", self.made))
        }

    def load_state_dict(self, state: dict[str, dict[int, Tensor]]) -> None:
        """Resume from a checkpoint."""
        self.real, self.made = (
            {label: kept.to(self.device) for label, kept in state[name].items()} for name in ("real", "made")
        )


def terms(predicted: Tensor, labels: Tensor, memories: Memories) -> tuple[Tensor, Tensor]:
    """Return the representativeness and the diversity loss of flat predictions [n, d] with ``labels`` [n] on the CPU.

    Means over the classes in the batch of 1 − the smallest cosine to the class's real memory, and of the largest cosine
    to the memory of predictions; a class with empty memories counts as 0. Nothing is remembered here.
    """
    present = labels.unique().tolist()
    represent = diversify = predicted.new_zeros(())
    for label in present:
        if label not in memories.made:
            continue
        mine = predicted[_rows(labels, label, predicted)]
        represent = represent + 1 - cosines(mine, memories.real[label]).min()
        diversify = diversify + cosines(mine, memories.made[label]).max()
    return represent / len(present), diversify / len(present)


def _rows(labels: Tensor, label: int, like: Tensor) -> Tensor:
    """Return the positions of a label, found on the CPU, on the device of a tensor."""
    rows: Tensor = moved((labels == label).nonzero()[:, 0], like.device)
    return rows


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Cosines [n, m] of the rows of [n, d] and [m, d], in full precision; a row of zeros has none."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.T / (one.norm(dim=1, keepdim=True) * other.norm(dim=1))


def remember(memories: Memories, labels: Tensor, real: Tensor, predicted: Tensor) -> None:
    """Push a batch's flat latents and predictions, class by class."""
    for label in labels.unique().tolist():
        rows = _rows(labels, label, real)
        memories.push(label, real[rows], predicted[rows])
