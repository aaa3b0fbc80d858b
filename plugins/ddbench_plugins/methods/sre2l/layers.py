"""The cached statistics of real images in the layers of a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

import ddbench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench_plugins.training.augment import Augment

FILE = "statistics.safetensors"
Views = Literal["padded", "resized", "none"]


@dataclass(frozen=True)
class Looks:
    """How training images are looked at.

    Attributes:
        images: how many, of each class alike; 0: all.
        views: random crops of images in a black border, or random resized crops, mirrored; or the images as they are.
        batch: images at a time, of which means and variances are averaged.
        patch: side of the patches.
    """

    images: int
    views: Views
    batch: int
    patch: int


def statistics_of(ctx: ddbench.Context, network: str, normalisation: str, file: str, looks: Looks) -> ddbench.StepCall:
    """Return the step with the statistics of a teacher's layers."""
    return layer_statistics.of(ctx, network, normalisation, Path(file).expanduser() if file else None, looks)


def read(done: ddbench.Done, device: str) -> dict[str, Tensor]:
    """Return what the step has found: ``layer/statistic``, and by class ``layer/classes/statistic`` [K, …]."""
    from safetensors.torch import load_file

    return {name: value.to(device) for name, value in load_file(done.dir / FILE).items()}


def _teacher(ctx: ddbench.Context, network: str, normalisation: str, file: Path | None) -> ddbench.StepCall:
    from ddbench_plugins.teachers.observers import teacher_of

    return teacher_of(ctx, network, normalisation, str(file or ""))


def _count(ctx: ddbench.Context, images: int) -> int:
    """Return how many images are looked at, of each class alike."""
    train, classes = ctx.dataset.train, ctx.dataset.num_classes
    share = -(-images // classes) if images else len(train)
    return sum(min(share, len(train.of_class(label))) for label in range(classes))


def view(views: Views, size: int, flip: bool, mean: Sequence[float], std: Sequence[float]) -> Augment:
    """Return how a teacher sees training images of values from 0 to 1."""
    from ddbench_plugins.training import augment

    varied = {
        "padded": [augment.random_crop.of(padding=size // 8)],
        "resized": [augment.random_resized_crop.of(size=size)],
        "none": [],
    }[views]
    flips = [augment.random_flip] if flip and varied else []
    # The border is black, as released, not of mean colour as that of the images that are recovered.
    return augment.compose(*varied, *flips, augment.normalise(mean, std))


@ddbench.step(
    needs=lambda ctx, network, normalisation, file, looks: [_teacher(ctx, network, normalisation, file)],
    work=lambda ctx, network, normalisation, file, looks: _count(ctx, looks.images),
    version=2,
)
def layer_statistics(
    ctx: ddbench.Context, out: ddbench.Step, network: str, normalisation: str, file: Path | None, looks: Looks
) -> None:
    """Average the statistics of training images in the layers of a teacher.

    Args:
        network: of the teacher.
        normalisation: constants of its inputs.
        file: with its weights, if they are in one.
        looks: at which images, and how.
    """
    import torch
    from safetensors.torch import save_file

    from ddbench_plugins.methods.sre2l.statistics import Gathering
    from ddbench_plugins.teachers.observers import get_teacher
    from ddbench_plugins.training.engine import Loop
    from ddbench_plugins.training.predict import as_float
    from ddbench_plugins.training.seeding import make_generator

    data, device = ctx.dataset, ctx.machine.device
    size, order = data.image_size, np.random.default_rng(0)  # the same for all seeds, as the teacher
    share = -(-looks.images // data.num_classes) if looks.images else len(data.train)
    members = [order.permutation(data.train.of_class(label))[:share] for label in range(data.num_classes)]
    chosen = order.permutation(np.concatenate(members))
    teacher = get_teacher(ctx, network, normalisation, str(file or ""), floor=False)
    seen = view(looks.views, size, data.flip, teacher.mean, teacher.std)

    def batch_of(number: int) -> tuple[Tensor, Tensor]:
        part = chosen[number * looks.batch : (number + 1) * looks.batch]
        pixels = np.ascontiguousarray(data.train.images.batch(part.tolist(), size).transpose(0, 3, 1, 2))
        x = seen(as_float(torch.from_numpy(pixels).to(device)), make_generator(0, "statistics", number))
        labels = torch.from_numpy(np.asarray(data.train.labels)[part]).long().to(device)
        return x.contiguous(memory_format=torch.channels_last), labels

    batches = -(-len(chosen) // looks.batch)
    work = Gathering(teacher.module(), batch_of, data.num_classes, looks.patch)
    with ctx.progress(f"statistics of {network}", batches) as advance:
        Loop.of(ctx, advance, out).run(work, batches, name="the statistics")
    save_file({name: value.contiguous() for name, value in work.means().items()}, out.dir / FILE)
