"""What one optimiser step computes: the loss of one batch, by label type.

A step is ``step(forward, batch, generator) -> loss``; it mixes images, asks a teacher, calls the student once. Where it
is a :class:`DrawnStep`, its random numbers can be drawn beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ddbench_plugins.training.losses import kl_soft_label, mixed_cross_entropy
from ddbench_plugins.training.mixing import draw_cutmix, pasted
from ddbench_plugins.training.numbers import moved

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from ddbench_plugins.training.numbers import Shape

    Loss = Callable[[Tensor, Tensor], Tensor]

Forward = Callable[["Tensor"], "Tensor"]


class Batch(NamedTuple):
    """One augmented batch."""

    images: Tensor
    """``[B, C, S, S]`` float, normalised."""
    labels: Tensor
    """``[B]`` class indices, or ``[B, K]`` real-valued labels."""
    indices: Tensor
    """``[B]`` positions in the training set."""


@dataclass(frozen=True)
class Batches:
    """Augmented and labelled batches in place of a training's own: ``batches(epoch)``, in its two parts.

    Attributes:
        draw: 0-based epoch → numbers of each batch; the same ones whenever they are asked for.
        make: numbers → batch.
    """

    draw: Callable[[int], Iterable[tuple[Any, ...]]]
    make: Callable[..., Batch]

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, drawn when they are asked for."""
        return (self.make(*numbers) for numbers in self.draw(epoch))


Step = Callable[[Forward, Batch, "torch.Generator"], "Tensor"]


@dataclass(frozen=True)
class DrawnStep:
    """A step in its two parts.

    Attributes:
        draw: ``(shape [B, C, H, W] of the batch, generator)`` → numbers (:mod:`ddbench_plugins.training.numbers`).
        loss: ``(forward, batch, *numbers)`` → loss.
    """

    draw: Callable[[Shape, Generator], tuple[Any, ...]]
    loss: Callable[..., Tensor]

    def __call__(self, forward: Forward, batch: Batch, generator: Generator) -> Tensor:
        """Draw, and return the loss."""
        images = batch.images
        return self.loss(forward, batch, *moved(self.draw(tuple(images.shape), generator), images.device))


def draw_nothing(shape: Shape, generator: Generator) -> tuple[()]:
    """Draw no numbers."""
    return ()


def hard_label_step(*, cutmix_probability: float = 0.0, label_smoothing: float = 0.0) -> DrawnStep:
    """Cross-entropy; with CutMix, weighted by pasted area (IDC and MinimaxDiffusion train.py)."""

    def draw(shape: Shape, generator: Generator) -> tuple[Any, ...]:
        mixes = cutmix_probability > 0 and float(torch.rand((), generator=generator)) < cutmix_probability
        return draw_cutmix(shape, generator) if mixes else ()

    def loss(forward: Forward, batch: Batch, *drawn: Any) -> Tensor:
        images, labels, _ = batch
        if drawn:
            mixed = pasted(images, *drawn)
            return mixed_cross_entropy(forward(mixed.images), labels, labels[mixed.partners], mixed.ratio)
        return F.cross_entropy(forward(images).float(), labels, label_smoothing=label_smoothing)

    return DrawnStep(draw, loss)


def soft_label_step(teacher: nn.Module, *, temperature: float) -> DrawnStep:
    """The teacher labels each batch as it is met, after CutMix; KL without T² (RDED validation/main.py).

    The teacher runs in the mode it is in. RDED's logging pass over the mixed images changes batch norm exactly as
    :func:`update_batchnorm_twice` does, without the cost.
    """

    def loss(forward: Forward, batch: Batch, *drawn: Any) -> Tensor:
        images = pasted(batch.images, *drawn).images
        with torch.no_grad():
            target = teacher(images)
        return kl_soft_label(forward(images), target, temperature)

    return DrawnStep(draw_cutmix, loss)


def given_label_step(loss: Loss, *, part_size: int | None = None) -> DrawnStep:
    """The labels come with the batch, finished: ``loss(student_logits, labels)``.

    ``part_size`` splits each batch and averages the losses of its parts, as gradient accumulation does: batch norm
    then sees one part at a time (SRe2L train_FKD.py).
    """

    def mean(forward: Forward, batch: Batch) -> Tensor:
        size = part_size or len(batch.images)
        parts = zip(batch.images.split(size), batch.labels.split(size), strict=True)
        return torch.stack([loss(forward(images), labels) for images, labels in parts]).mean()

    return DrawnStep(draw_nothing, mean)


def update_batchnorm_twice(network: nn.Module) -> None:
    """Make every batch norm update its running statistics as two forward passes over the same batch would.

    RDED's training loop passes each batch through the student twice in train mode, the first time for a log line.
    With momentum m the two updates equal one with 1 − (1−m)², so 0.1 becomes 0.19.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** 2
