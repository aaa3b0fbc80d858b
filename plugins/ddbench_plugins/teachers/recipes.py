"""Recipes of teachers, as data: how a network is trained on the whole training set, and the accuracy it must reach."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class TeacherRecipe:
    """How to train a teacher with hard labels: one-cycle schedule, crop and flip."""

    epochs: int
    batch_size: int
    optimiser: Literal["sgd", "adamw"]
    lr: float
    """Peak learning rate."""
    weight_decay: float
    floor: float
    """Test accuracy (fraction) under which the teacher is not to be trusted."""
    crop_padding: int = 4
    """Zero padding of the random crop, pixels; 0 for none."""
    crop_scale: float = 1.0
    """Smallest area share of a random resized crop, used instead of the padded crop if below 1."""
    flip: bool = True
    label_smoothing: float = 0.0

    def without_flip(self) -> TeacherRecipe:
        """The same recipe for images that must not be mirrored."""
        return replace(self, flip=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a record of how a teacher came to be."""
        return asdict(self)


GENERIC = TeacherRecipe(epochs=30, batch_size=125, optimiser="adamw", lr=0.003, weight_decay=0.05, floor=0.0)
"""For data sets without a recipe of their own. It has no floor: nobody knows what to expect."""

RECIPES: dict[tuple[str, str], TeacherRecipe] = {
    ("digits", ""): TeacherRecipe(
        epochs=20,
        batch_size=50,
        optimiser="adamw",
        lr=0.003,
        weight_decay=0.01,
        floor=0.97,
        crop_padding=1,
        flip=False,
    ),
    ("cifar10", ""): TeacherRecipe(
        epochs=20, batch_size=250, optimiser="adamw", lr=0.003, weight_decay=0.05, floor=0.80
    ),
    ("cifar100", ""): TeacherRecipe(
        epochs=30, batch_size=250, optimiser="adamw", lr=0.003, weight_decay=0.05, floor=0.50
    ),
    ("fashion-mnist", ""): TeacherRecipe(
        epochs=10, batch_size=250, optimiser="adamw", lr=0.003, weight_decay=0.05, floor=0.90, crop_padding=2
    ),
    ("imagenette", ""): TeacherRecipe(
        epochs=30, batch_size=50, optimiser="adamw", lr=0.003, weight_decay=0.05, floor=0.55, crop_scale=0.35
    ),
}
"""Recipes by (data set, network family); the family "" stands for every network without its own recipe."""


def recipe_for(dataset: str, network: str) -> TeacherRecipe:
    """Recipe of a data set for a network such as "convnet-3-bn": its own, its family's, the data set's, or generic."""
    family = network.rstrip("-bng").rstrip("0123456789").rstrip("-")
    for name in (network, family, ""):
        if (dataset, name) in RECIPES:
            return RECIPES[dataset, name]
    return GENERIC
