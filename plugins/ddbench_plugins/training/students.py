"""What evaluators share: a distilled set and a test split as tensors, and one trained and tested student."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from ddbench import DataError, Score
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import train_together
from ddbench_plugins.training.pixels import as_bytes
from ddbench_plugins.training.predict import evaluate_on
from ddbench_plugins.training.streaming import StreamedImages

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor, nn

    from ddbench import Context, Dataset, DistilledSet, Whitening
    from ddbench_plugins.training.augment import Augment
    from ddbench_plugins.training.predict import Evaluation
    from ddbench_plugins.training.steps import Batches

#: Test splits larger than this many bytes are decoded again at every test instead of being held in memory.
KEEP_BYTES = 2**31
_tests: OrderedDict[tuple[str, int, int, str], tuple[Tensor, Tensor]] = OrderedDict()


def training_tensors(
    distilled: DistilledSet, dataset: Dataset, size: int, whitening: Whitening | None = None
) -> tuple[Tensor, Tensor]:
    """Return the distilled set as tensors: images [N, C, size, size], uint8 or float in [0, 1] scale, and labels [N].

    Normalised pixels are brought back to the [0, 1] scale with the data set's constants (they may leave that range, and
    are not clamped); images of another size are resized (bilinear, antialiased). With ``whitening`` all are whitened,
    whichever space they come in.

    Raises:
        DataError: the set's pixels are ZCA-whitened, and the caller does not test on such.
    """
    images = torch.tensor(distilled.images.transpose(0, 3, 1, 2))
    labels = torch.tensor(distilled.labels)
    if distilled.space == "zca":
        if whitening is None:
            raise DataError(
                "The distilled set is ZCA-whitened, and this protocol tests on ordinary images.",
                hint="Evaluate it by a protocol that whitens both, such as dc.",
            )
        return images, labels
    if distilled.space == "normalized":
        shape = (1, -1, 1, 1)
        images = images * torch.tensor(dataset.std).view(shape) + torch.tensor(dataset.mean).view(shape)
    if images.shape[-1] != size:
        images = torch.nn.functional.interpolate(
            images.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
        if distilled.space == "rgb_uint8":
            images = as_bytes(images.round_())
    return images if whitening is None else whitened(images, whitening), labels


def whitened(images: Tensor, whitening: Whitening) -> Tensor:
    """Return images [n, C, S, S], uint8 or float in [0, 1] scale, whitened: float32."""
    white = whitening.whiten(images.permute(0, 2, 3, 1).numpy())
    return torch.from_numpy(white).permute(0, 3, 1, 2).contiguous()


def test_tensors(
    dataset: Dataset, size: int, resize: int | None = None, whitening: Whitening | None = None
) -> tuple[Tensor | StreamedImages, Tensor]:
    """Return the test split as uint8 [N, C, size, size] and labels [N]: resized to ``resize``, then centre-cropped.

    With ``whitening`` they are whitened, float32. Above :data:`KEEP_BYTES` other images are streamed: they are of use
    to ``train_student`` and ``predict.evaluate``, and are never in memory as a whole.
    """
    streamed = StreamedImages(dataset.test.images, size, resize or size)
    labels = torch.tensor(dataset.test.labels)
    if streamed.nbytes > KEEP_BYTES and whitening is None:
        return streamed, labels
    key = (dataset.fingerprint, size, streamed.resize, whitening.space.fingerprint if whitening else "")
    if key not in _tests:
        _tests.clear()
        images = streamed.tensor()
        _tests[key] = images if whitening is None else whitened(images, whitening), labels
    return _tests[key]


def train_student(ctx: Context, network: nn.Module, *, seed: int, batches: Batches | None = None, **how: Any) -> Score:
    """Train and test one student as :func:`train_students` does."""
    return train_students(ctx, [network], seeds=[seed], batches=[batches] if batches else None, **how)[0]


def train_students(
    ctx: Context,
    networks: Sequence[nn.Module],
    *,
    images: Tensor,
    labels: Tensor,
    test_images: Tensor | StreamedImages,
    test_labels: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    epochs: int,
    test_epochs: Collection[int],
    seeds: Sequence[int],
    augment: Augment,
    **recipe: Any,
) -> list[Score]:
    """Train students at once, with checkpoints and progress, test each after ``test_epochs`` (0-based), return scores.

    ``augment`` must normalise; ``recipe`` is passed to :func:`ddbench_plugins.training.loop.train_together`.
    """
    last: dict[int, Evaluation] = {}

    def test(student: nn.Module) -> float:
        last[id(student)] = evaluate_on(ctx, student, test_images, test_labels, mean, std)
        return last[id(student)].accuracy

    many = f"{len(networks)} {ctx.network} students" if len(networks) > 1 else f"{ctx.network} student"
    with ctx.progress(many, epochs) as advance:
        results = train_together(
            networks,
            images=images,
            labels=labels,
            epochs=epochs,
            seeds=seeds,
            augment=augment,
            test=test,
            test_epochs=test_epochs,
            loop=Loop.of(ctx, advance),
            **recipe,
        )
    return [
        Score(
            last=float(last[id(network)].correct.numpy().mean()),
            best=result.best if len(result.tests) > 1 else None,
            correct=last[id(network)].correct.numpy(),
            curve=[(epoch + 1, accuracy) for epoch, accuracy in result.tests],
            metrics={"final_loss": result.losses[-1]},
        )
        for network, result in zip(networks, results, strict=True)
    ]
