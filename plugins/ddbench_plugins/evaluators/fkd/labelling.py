"""What a teacher says of augmented batches: which batches, its logits, and top-k labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.evaluators.fkd.views import View, ViewRecipe
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.runtime import autocast
from ddbench_plugins.training.steps import Batch, Batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from ddbench_plugins.training.runtime import Precision


@dataclass(frozen=True)
class Plan:
    """Which labels: those of ``epochs`` epochs of augmented batches.

    Attributes:
        recipe: how batches are augmented.
        epochs, batch_size: how often the set is visited, and in batches of how many images.
        seed: of order and augmentation; with the epoch it determines every batch.
        top_k: keep only that many largest logits of each image, fewer than there are classes; None keeps all.
        temperature: for which the rest of a top-k label is right; part of the labels with ``top_k`` only.
    """

    recipe: ViewRecipe
    epochs: int
    batch_size: int
    seed: int
    top_k: int | None = None
    temperature: float = 1.0

    def views(self, images: Tensor, epoch: int) -> Iterator[View]:
        """Draw the views of a 0-based epoch over ``images`` ``[N, C, S, S]``."""
        return self.recipe.epoch(len(images), images.shape[-1], self.batch_size, self.seed, epoch)

    def plain(self) -> Plan:
        """Return the plan of one label per image, of the image as it is."""
        return replace(self, recipe=replace(self.recipe, crop="none", flip=False, mix="none"), epochs=1)

    def describe(self) -> dict[str, Any]:
        """Return what the labels depend on, as plain data."""
        return {
            "recipe": self.recipe.to_dict(),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "top_k": self.top_k,
            "temperature": self.temperature if self.top_k else None,
        }


def online_batches(images: Tensor, teacher: nn.Module, plan: Plan, precision: Precision = "auto") -> Batches:
    """Batches that the teacher labels as they are met; it runs in the mode it is in.

    ``images`` ``[N, C, S, S]`` on the teacher's device. Labels are float32 logits ``[B, K]``; with ``top_k``, what
    would be left of them after storing.
    """

    def make(view: View) -> Batch:
        x, logits = label_view(images, teacher, plan, view, precision)
        if plan.top_k:
            logits = restore(*compress(logits, plan.top_k, plan.temperature), logits.shape[1])
        return Batch(x, logits, view.indices)

    return Batches(lambda epoch: ((view,) for view in plan.views(images, epoch)), make)


def hard_batches(images: Tensor, classes: Any, num_classes: int, plan: Plan) -> Batches:
    """Batches labelled with the shares of the classes ``[N]`` in each mixed image: float32 ``[B, K]``, sums of 1."""
    shares = torch.nn.functional.one_hot(torch.as_tensor(classes), num_classes).float().to(images.device)
    return _mixed(images, plan, shares, lambda labels: labels)


def fixed_batches(images: Tensor, logits: Tensor, temperature: float, plan: Plan) -> Batches:
    """Batches labelled with the images' own logits ``[N, K]``, whatever the augmentation.

    A mixed image has the mean of both probabilities at the temperature, weighted by their shares; its float32 label
    ``[B, K]`` is the logits of that mean.
    """
    probabilities = (logits.to(images.device) / temperature).softmax(1)
    least = torch.finfo(torch.float32).tiny
    return _mixed(images, plan, probabilities, lambda labels: labels.clamp(min=least).log() * temperature)


def _mixed(images: Tensor, plan: Plan, table: Tensor, label: Callable[[Tensor], Tensor]) -> Batches:
    def make(view: View) -> Batch:
        view = moved(view, images.device)
        labels = table[view.indices]
        if view.partners is not None:
            assert view.ratio is not None
            labels = torch.lerp(labels[view.partners], labels, view.ratio.to(labels.dtype))
        return Batch(plan.recipe.render(images, view), label(labels), view.indices)

    return Batches(lambda epoch: ((view,) for view in plan.views(images, epoch)), make)


def label_view(
    images: Tensor, teacher: nn.Module, plan: Plan, view: View, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Return the batch that a view shows, and the teacher's float32 logits ``[B, K]`` of it."""
    x = plan.recipe.render(images, moved(view, images.device))
    with torch.no_grad(), autocast(precision, x.device):
        return x, teacher(x).float()


# Top-k labels -------------------------------------------------------------------------------------------------------


def compress(logits: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k largest logits ``[B, k]``, their classes ``[B, k]``, and one logit ``[B]`` for all other classes.

    The last is T·log(mean of exp(z/T) over the others): at temperature T the kept classes keep their probabilities
    exactly, and the others share what is left equally (FKD's marginal smoothing, Shen and Xing, ECCV 2022).
    """
    values, classes = logits.topk(k, dim=1)
    others = logits.scatter(1, classes, -math.inf) / temperature
    rest = (others.logsumexp(1) - math.log(logits.shape[1] - k)) * temperature
    return values, classes, rest


def restore(values: Tensor, classes: Tensor, rest: Tensor, num_classes: int) -> Tensor:
    """Logits ``[B, K]`` of a compressed label."""
    return rest[:, None].repeat(1, num_classes).scatter(1, classes, values)
