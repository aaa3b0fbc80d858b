"""How a teacher is trained by its recipe."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ddbench_plugins.training.augment import compose, normalise, random_crop, random_flip, random_resized_crop
from ddbench_plugins.training.loop import TrainResult, train
from ddbench_plugins.training.optimisers import adamw, sgd
from ddbench_plugins.training.schedules import one_cycle
from ddbench_plugins.training.steps import hard_label_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from ddbench_plugins.teachers.recipes import TeacherRecipe
    from ddbench_plugins.training.augment import Augment
    from ddbench_plugins.training.engine import Loop


def train_teacher(
    network: nn.Module,
    *,
    images: Tensor,
    labels: Tensor,
    recipe: TeacherRecipe,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    loop: Loop | None = None,
    **changes: Any,
) -> TrainResult:
    """Train ``network`` in place on hard labels; it ends in evaluation mode.

    Images are ``[N, C, S, S]``, uint8 or float in [0, 1]; ``mean`` and ``std`` per channel normalise them. ``changes``
    are arguments of :func:`train` beside the recipe's, or instead of them: with fewer ``epochs`` it ends early.
    """
    make = partial(sgd, nesterov=True) if recipe.optimiser == "sgd" else adamw
    settings: dict[str, Any] = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "optimiser": make(recipe.lr, weight_decay=recipe.weight_decay),
        "schedule": one_cycle(recipe.epochs),
        "schedule_per_step": True,
        "augment": teacher_augmentation(recipe, images.shape[-1], normalise(mean, std)),
        "step": hard_label_step(label_smoothing=recipe.label_smoothing),
    }
    result = train(network, images=images, labels=labels, seed=seed, loop=loop, **(settings | changes))
    network.eval()
    return result


def teacher_augmentation(recipe: TeacherRecipe, size: int, scale: Augment) -> Augment:
    """The recipe's augmentation chain. Normalisation comes first, so that zero padding is the mean colour."""
    operations = [scale]
    if recipe.crop_scale < 1:
        operations.append(random_resized_crop.of(size=size, scale=(recipe.crop_scale, 1.0)))
    elif recipe.crop_padding > 0:
        operations.append(random_crop.of(padding=recipe.crop_padding))
    if recipe.flip:
        operations.append(random_flip)
    return compose(*operations)
