"""How DD-Ranking trains any of its networks, as plain data, and what that means for the loop (utils/train_and_eval.py).

One recipe covers hard labels and both kinds of soft labels, so that a score can vary one thing and keep the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ddbench_plugins.training import augment, dsa, losses, mixing, optimisers, schedules
from ddbench_plugins.training.steps import Asked, DrawnStep

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from ddbench_plugins.training.augment import Augment
    from ddbench_plugins.training.numbers import Shape
    from ddbench_plugins.training.optimisers import OptimiserFactory
    from ddbench_plugins.training.schedules import Schedule
    from ddbench_plugins.training.steps import Asking, Batch

Augmentation = Literal["none", "dsa", "cutmix", "mixup"]
Loss = Literal["kl", "sce", "mse_gt"]
Optimiser = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["step", "half_cosine", "cosine"]


@dataclass(frozen=True)
class TrialRecipe:
    """One training but for its learning rate; plain data, and part of the training's key."""

    soft: bool
    """Soft labels; else cross-entropy with hard ones."""
    epochs: int
    batch_size: int
    optimiser: Optimiser
    weight_decay: float
    schedule: ScheduleName
    step_size: int
    """Epochs between drops to a tenth under the schedule "step"."""
    augmentation: Augmentation = "none"
    """Of whole normalised batches."""
    mixup_alpha: float = 0.8
    mix_hard_labels: bool = True
    """Weigh hard labels by CutMix area or mixup share; the released code leaves them as they are."""
    crop_padding: int = 0
    """Zero padding of a random crop of each image, pixels."""
    crop_scale: float = 1.0
    """Smallest area of a random resized crop of each image."""
    patch_shuffle: int = 1
    flip: bool = False
    loss: Loss = "kl"
    temperature: float = 1.0
    scale_by_t2: bool = False
    mse_weight: float = 1.0
    ce_weight: float = 1.0
    test_every: int = 0
    """Epochs between tests; 0 for one test, after the last epoch."""

    def plain(self) -> TrialRecipe:
        """The same without any augmentation, of batches or images (aug_robust.py)."""
        return replace(
            self, augmentation="none", crop_padding=0, crop_scale=1.0, patch_shuffle=1, flip=False
        ).canonical()

    def hard(self, augmented: bool) -> TrialRecipe:
        """The same with hard labels; batches are augmented only if asked for, images as before (soft_label.py)."""
        return replace(self, soft=False, augmentation=self.augmentation if augmented else "none").canonical()

    def canonical(self) -> TrialRecipe:
        """The same with what has no effect set to its default, so that equal trainings have equal keys."""
        default = TrialRecipe(self.soft, self.epochs, self.batch_size, self.optimiser, self.weight_decay, "step", 1)
        unused = ["loss", "temperature", "scale_by_t2", "mse_weight", "ce_weight"] * (not self.soft)
        unused += ["temperature", "scale_by_t2"] * (self.loss == "mse_gt")
        unused += ["mse_weight", "ce_weight"] * (self.loss != "mse_gt")
        unused += ["step_size"] * (self.schedule != "step")
        unused += ["mixup_alpha"] * (self.augmentation != "mixup")
        unused += ["mix_hard_labels"] * (self.soft or self.augmentation not in ("cutmix", "mixup"))
        return replace(self, **{name: getattr(default, name) for name in unused})

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def test_epochs(self) -> list[int]:
        """0-based epochs with a test; the last is always one."""
        last = self.epochs - 1
        between = range(self.test_every - 1, last, self.test_every) if self.test_every else ()
        return [*between, last]


def chain(recipe: TrialRecipe, size: int, mean: Sequence[float], std: Sequence[float], mirrored: bool) -> Augment:
    """Return the augmentation of one batch but for mixing: of images, normalisation, then DSA.

    ``mirrored`` is whether a mirrored image keeps its label.
    """
    operations: list[Augment] = []
    if recipe.patch_shuffle > 1:
        operations.append(augment.patch_shuffle.of(factor=recipe.patch_shuffle))
    if recipe.crop_padding:
        operations.append(augment.random_crop.of(padding=recipe.crop_padding))
    if recipe.crop_scale < 1:
        operations.append(augment.random_resized_crop.of(size=size, scale=(recipe.crop_scale, 1.0)))
    if recipe.flip and mirrored:
        operations.append(augment.random_flip)
    operations.append(augment.normalise(mean, std))
    if recipe.augmentation == "dsa":
        # DD-Ranking draws one of six operators per batch for every data set; flips go where they change the label.
        strategy = [name for name in dsa.STRATEGY_DD_RANKING if mirrored or name != "flip"]
        operations.append(dsa.dsa("dc", strategy))
    return augment.compose(*operations)


def label_step(recipe: TrialRecipe, labeller: Callable[[Tensor, Batch], Tensor] | None = None) -> DrawnStep:
    """Return the step of one batch: mixing, labels, loss.

    ``labeller(mixed_images, batch)`` gives the soft labels as logits [B, K]; hard labels are the batch's own.
    """

    def draw(shape: Shape, generator: Generator) -> tuple[Any, ...]:
        match recipe.augmentation:
            case "cutmix":
                return mixing.draw_cutmix(shape, generator)
            case "mixup":
                return mixing.draw_mixup(shape, generator, recipe.mixup_alpha)
        return ()

    def asking(batch: Batch, *drawn: Any) -> Asking:
        mix = mixing.pasted if recipe.augmentation == "cutmix" else mixing.blended
        mixed = mix(batch.images, *drawn) if drawn else None
        images = batch.images if mixed is None else mixed.images
        if not recipe.soft:
            logits = (yield Asked(images)).float()
            if mixed is None or not recipe.mix_hard_labels:
                return nn.functional.cross_entropy(logits, batch.labels)
            return losses.mixed_cross_entropy(logits, batch.labels, batch.labels[mixed.partners], mixed.ratio)
        assert labeller is not None
        with torch.no_grad():
            target = labeller(images, batch)
        logits = yield Asked(images)
        return soft_loss(recipe, logits, target, batch.labels)

    return DrawnStep(draw, asking)


def soft_loss(recipe: TrialRecipe, student: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """Return the loss between logits [B, K]; ``labels`` [B] are the hard ones, which only mse_gt uses."""
    match recipe.loss:
        case "kl":
            return losses.kl_soft_label(student, target, recipe.temperature, scale_by_t2=recipe.scale_by_t2)
        case "sce":
            return losses.soft_cross_entropy(student, target, recipe.temperature, scale_by_t2=recipe.scale_by_t2)
    weights = {"mse_weight": recipe.mse_weight, "ce_weight": recipe.ce_weight}
    return losses.mse_and_ground_truth(student, target, labels, **weights)


def optimiser(recipe: TrialRecipe, lr: float) -> OptimiserFactory:
    """Return the optimiser, with weight decay on all parameters (utils/train_and_eval.py)."""
    return optimisers.OPTIMISERS[recipe.optimiser](lr, weight_decay=recipe.weight_decay, decay="all")


def schedule(recipe: TrialRecipe) -> Schedule:
    """Return the schedule of the learning rate."""
    if recipe.schedule == "step":
        return schedules.step(recipe.step_size)
    return schedules.SCHEDULES[recipe.schedule](recipe.epochs)
