"""One function that trains a teacher by its recipe and measures it.

A teacher whose test accuracy is below its recipe's floor should not label anything: the usual cause is a wrong class
order or normalisation, which soft labels hide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddbench_plugins.training.augment import compose, normalise, random_crop, random_flip, random_resized_crop
from ddbench_plugins.training.loop import TrainResult, train
from ddbench_plugins.training.optimisers import adamw, sgd
from ddbench_plugins.training.predict import Evaluation, evaluate
from ddbench_plugins.training.schedules import one_cycle
from ddbench_plugins.training.steps import hard_label_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor, nn

    from ddbench_plugins.teachers.recipes import TeacherRecipe
    from ddbench_plugins.training.augment import Augment
    from ddbench_plugins.training.loop import Progress
    from ddbench_plugins.training.runtime import Compile, Precision
    from ddbench_plugins.training.saving import Checkpoint


@dataclass
class Teacher:
    """A trained teacher, in evaluation mode."""

    network: nn.Module
    evaluation: Evaluation | None
    """On the test set, if one was given."""
    recipe: TeacherRecipe
    training: TrainResult

    @property
    def trusted(self) -> bool:
        """Whether the accuracy is known and reaches the recipe's floor."""
        return self.evaluation is not None and self.evaluation.accuracy >= self.recipe.floor


def train_teacher(
    network: nn.Module,
    *,
    images: Tensor,
    labels: Tensor,
    test_images: Tensor | None = None,
    test_labels: Tensor | None = None,
    recipe: TeacherRecipe,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    precision: Precision = "auto",
    compile: Compile = "auto",
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Progress | None = None,
) -> Teacher:
    """Train ``network`` in place on hard labels; with a test set, measure it there once, after the last epoch.

    Images are ``[N, C, S, S]``, uint8 or float in [0, 1]; ``mean`` and ``std`` per channel normalise them.
    """
    scale = normalise(mean, std)
    result = train(
        network,
        images=images,
        labels=labels,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimiser=(
            sgd(recipe.lr, weight_decay=recipe.weight_decay, nesterov=True)
            if recipe.optimiser == "sgd"
            else adamw(recipe.lr, weight_decay=recipe.weight_decay)
        ),
        schedule=one_cycle(recipe.epochs),
        schedule_per_step=True,
        augment=teacher_augmentation(recipe, images.shape[-1], scale),
        step=hard_label_step(label_smoothing=recipe.label_smoothing),
        seed=seed,
        precision=precision,
        compile=compile,
        device=device,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        progress=progress,
    )
    network.eval()
    measured = None
    if test_images is not None and test_labels is not None:
        measured = evaluate(network, test_images, test_labels, transform=scale, precision=precision, device=device)
    return Teacher(network, measured, recipe, result)


def teacher_augmentation(recipe: TeacherRecipe, size: int, scale: Augment) -> Augment:
    """The recipe's augmentation chain. Normalisation comes first, so that zero padding is the mean colour."""
    operations = [scale]
    if recipe.crop_scale < 1:
        operations.append(lambda x, generator: random_resized_crop(x, generator, size, (recipe.crop_scale, 1.0)))
    elif recipe.crop_padding > 0:
        operations.append(lambda x, generator: random_crop(x, generator, recipe.crop_padding))
    if recipe.flip:
        operations.append(random_flip)
    return compose(*operations)
