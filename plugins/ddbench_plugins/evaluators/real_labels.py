"""What protocols share that train by squared error to real-valued labels: those of a set, or of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ddbench import Context, DistilledSet, UsageError
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.training.recipe import StudentRecipe
from ddbench_plugins.training.whitening import normalisation_of

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ddbench import Whitening


@dataclass(frozen=True, kw_only=True)
class RealLabelRecipe(StudentRecipe):
    """Squared error to real-valued labels, for so many steps.

    Attributes:
        targets: [N, K], what the outputs are to be.
        steps: of the optimiser in all.
    """

    targets: NDArray[Any]
    steps: int

    @classmethod
    def for_set(
        cls,
        ctx: Context,
        options: Any,
        distilled: DistilledSet,
        steps: int,
        *,
        divisor: float = 1.0,
        passes: bool = True,
        **resolved: Any,
    ) -> Self:
        """Return the recipe that options, with a ``batch_size``, give for a set; targets as of :func:`targets_of`.

        With ``passes`` there are as many steps as make up whole passes, a few more where ``steps`` do not.
        """
        batches = -(-len(distilled.labels) // options.batch_size)
        epochs = -(-steps // batches)
        return cls.of(
            ctx,
            options,
            steps=epochs * batches if passes else steps,
            epochs=epochs,
            normalisation=normalisation_of(ctx, distilled),
            targets=targets_of(distilled, ctx.dataset.num_classes, divisor),
            **resolved,
        )

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        stated = super().settings()
        del stated["epochs"]
        return stated | {"label_type": "real", "loss": "squared error", "steps": self.steps}

    def decoded(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images with the labels to train on."""
        import torch

        return images, torch.tensor(self.targets, dtype=torch.float32)


class RealLabelEvaluator(StudentEvaluator):
    """Takes sets with centred labels, probabilities or classes, and whitens where that is asked for."""

    label_kinds = ("probabilities", "centred")
    whitens = True

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse data of one class."""
        refuse_one_class(ctx)


def refuse_one_class(ctx: Context) -> None:
    """Refuse data of one class, whose centred labels are all 0.

    Raises:
        UsageError: there is only one.
    """
    if ctx.dataset.num_classes < 2:
        raise UsageError(
            f"{ctx.dataset.name} has one class: a regression on centred labels has nothing to learn.",
            hint="Evaluate on a data set of at least two classes.",
        )


def targets_of(distilled: DistilledSet, classes: int, divisor: float = 1.0) -> NDArray[Any]:
    """Return what the outputs are to be [N, K]: centred labels as they are, others minus 1/K, over ``divisor``."""
    import numpy as np

    labels = distilled.soft_labels
    if labels is not None and distilled.label_kind == "centred":
        return labels
    probabilities = np.eye(classes)[distilled.labels] if labels is None else labels.astype(np.float64)
    return np.asarray((probabilities - 1 / classes) / divisor)


def training_images(ctx: Context, places: NDArray[np.int64], whitening: Whitening | None) -> Tensor:
    """Return images of the training split [n, C, S, S] as students' tests see those of the test split."""
    import torch

    from ddbench_plugins.training.students import whitened

    data = ctx.dataset
    found = data.train.images.batch(places.tolist(), data.image_size)
    images = torch.from_numpy(found).permute(0, 3, 1, 2).contiguous()
    return images if whitening is None else whitened(images, whitening)
