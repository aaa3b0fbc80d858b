"""What one optimiser step computes: the loss of one batch, by label type.

A step is ``step(forward, batch, generator) -> loss``; it mixes images, asks a teacher, calls the student once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ddbench_plugins.training.losses import kl_soft_label, mixed_cross_entropy
from ddbench_plugins.training.mixing import cutmix

if TYPE_CHECKING:
    from torch import Generator, Tensor

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


Step = Callable[[Forward, Batch, "torch.Generator"], "Tensor"]


def hard_label_step(*, cutmix_probability: float = 0.0, label_smoothing: float = 0.0) -> Step:
    """Cross-entropy; with CutMix, weighted by pasted area (IDC and MinimaxDiffusion train.py)."""

    def step(forward: Forward, batch: Batch, generator: Generator) -> Tensor:
        images, labels, _ = batch
        if cutmix_probability > 0 and float(torch.rand((), generator=generator)) < cutmix_probability:
            mixed = cutmix(images, generator)
            return mixed_cross_entropy(forward(mixed.images), labels, labels[mixed.partners], mixed.ratio)
        return F.cross_entropy(forward(images).float(), labels, label_smoothing=label_smoothing)

    return step


def soft_label_step(teacher: nn.Module, *, temperature: float) -> Step:
    """The teacher labels each batch as it is met, after CutMix; KL without T² (RDED validation/main.py).

    The teacher runs in the mode it is in. RDED's logging pass over the mixed images changes batch norm exactly as
    :func:`update_batchnorm_twice` does, without the cost.
    """

    def step(forward: Forward, batch: Batch, generator: Generator) -> Tensor:
        images = cutmix(batch.images, generator).images
        with torch.no_grad():
            target = teacher(images)
        return kl_soft_label(forward(images), target, temperature)

    return step


def given_label_step(loss: Loss, *, part_size: int | None = None) -> Step:
    """The labels come with the batch, finished: ``loss(student_logits, labels)``.

    ``part_size`` splits each batch and averages the losses of its parts, as gradient accumulation does: batch norm
    then sees one part at a time (SRe2L train_FKD.py).
    """

    def step(forward: Forward, batch: Batch, generator: Generator) -> Tensor:
        size = part_size or len(batch.images)
        parts = zip(batch.images.split(size), batch.labels.split(size), strict=True)
        return torch.stack([loss(forward(images), labels) for images, labels in parts]).mean()

    return step


def update_batchnorm_twice(network: nn.Module) -> None:
    """Make every batch norm update its running statistics as two forward passes over the same batch would.

    RDED's training loop passes each batch through the student twice in train mode, the first time for a log line.
    With momentum m the two updates equal one with 1 − (1−m)², so 0.1 becomes 0.19.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** 2
