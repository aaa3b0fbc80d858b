"""What one optimiser step computes: the loss of one batch, by label type.

A step is ``step(forward, batch, generator) -> loss``; it mixes images, asks a teacher, calls the student once. Where it
is a :class:`DrawnStep`, its random numbers can be drawn beforehand, and those of several students can be taken at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ddbench_plugins.training.losses import kl_soft_label, mixed_cross_entropy
from ddbench_plugins.training.mixing import draw_cutmix, pasted
from ddbench_plugins.training.numbers import moved

if TYPE_CHECKING:
    from torch import Tensor

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


class Asked(NamedTuple):
    """What a loss waits for: the outputs of the student, or of a teacher, for images."""

    images: Tensor
    teacher: nn.Module | None = None


#: A loss on its way: yields what it asks for, is sent the outputs, and returns.
Asking = Generator[Asked, "Tensor", "Tensor"]


@dataclass(frozen=True)
class DrawnStep:
    """A step in its two parts.

    Attributes:
        draw: ``(shape [B, C, H, W] of the batch, generator)`` → numbers (:mod:`ddbench_plugins.training.numbers`).
        asking: ``(batch, *numbers)`` → loss, a generator: ``logits = yield Asked(images)``.
    """

    draw: Callable[[Shape, torch.Generator], tuple[Any, ...]]
    asking: Callable[..., Asking]

    def __call__(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Tensor:
        """Draw, and return the loss."""
        images = batch.images
        drawn = moved(self.draw(tuple(images.shape), generator), images.device)
        return answered([self.asking(batch, *drawn)], lambda images: [forward(images[0])])[0]


def answered(asking: Sequence[Asking], forward: Callable[[list[Tensor]], Sequence[Tensor]]) -> list[Tensor]:
    """Return the losses of students whose steps ask for the same in turn: of each network once, for all of them.

    ``forward`` gives the outputs of every student for its own images.
    """
    answers: Sequence[Tensor | None] = [None] * len(asking)
    while True:
        asked, losses = list[Asked](), list[torch.Tensor]()
        for one, answer in zip(asking, answers, strict=True):
            try:
                asked.append(one.send(answer))  # None begins
            except StopIteration as end:
                losses.append(end.value)
        if losses:
            return losses
        images, teacher = [one.images for one in asked], asked[0].teacher
        answers = forward(images) if teacher is None else _taught(teacher, images)


def _taught(teacher: nn.Module, images: list[Tensor]) -> Sequence[Tensor]:
    with torch.no_grad():
        if teacher.training or len(images) == 1:  # which sees one batch at a time
            return [teacher(part) for part in images]
        outputs: Sequence[Tensor] = teacher(torch.cat(images)).chunk(len(images))
        return outputs


def draw_nothing(shape: Shape, generator: torch.Generator) -> tuple[()]:
    """Draw no numbers."""
    return ()


def hard_label_step(*, cutmix_probability: float = 0.0, label_smoothing: float = 0.0) -> DrawnStep:
    """Cross-entropy; with CutMix, weighted by pasted area (IDC and MinimaxDiffusion train.py)."""

    def draw(shape: Shape, generator: torch.Generator) -> tuple[Any, ...]:
        mixes = cutmix_probability > 0 and float(torch.rand((), generator=generator)) < cutmix_probability
        return draw_cutmix(shape, generator) if mixes else ()

    def asking(batch: Batch, *drawn: Any) -> Asking:
        images, labels, _ = batch
        if drawn:
            mixed = pasted(images, *drawn)
            logits = yield Asked(mixed.images)
            return mixed_cross_entropy(logits, labels, labels[mixed.partners], mixed.ratio)
        logits = yield Asked(images)
        return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)

    return DrawnStep(draw, asking)


def soft_label_step(teacher: nn.Module, *, temperature: float) -> DrawnStep:
    """The teacher labels each batch as it is met, after CutMix; KL without T² (RDED validation/main.py).

    The teacher runs in the mode it is in. RDED's logging pass over the mixed images changes batch norm exactly as
    :func:`update_batchnorm_twice` does, without the cost.
    """

    def asking(batch: Batch, *drawn: Any) -> Asking:
        images = pasted(batch.images, *drawn).images
        target = yield Asked(images, teacher)
        logits = yield Asked(images)
        return kl_soft_label(logits, target, temperature)

    return DrawnStep(draw_cutmix, asking)


def given_label_step(loss: Loss, *, part_size: int | None = None) -> DrawnStep:
    """The labels come with the batch, finished: ``loss(student_logits, labels)``.

    ``part_size`` splits each batch and averages the losses of its parts, as gradient accumulation does: batch norm
    then sees one part at a time (SRe2L train_FKD.py).
    """

    def mean(batch: Batch) -> Asking:
        size, losses = part_size or len(batch.images), []
        for images, labels in zip(batch.images.split(size), batch.labels.split(size), strict=True):
            logits = yield Asked(images)
            losses.append(loss(logits, labels))
        return torch.stack(losses).mean()

    return DrawnStep(draw_nothing, mean)


def update_batchnorm_twice(network: nn.Module) -> None:
    """Make every batch norm update its running statistics as two forward passes over the same batch would.

    RDED's training loop passes each batch through the student twice in train mode, the first time for a log line.
    With momentum m the two updates equal one with 1 − (1−m)², so 0.1 becomes 0.19.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** 2
