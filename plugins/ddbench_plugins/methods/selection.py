"""What the selection methods share: per-class choice, assembling the set, and the features they choose by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

import ddbench

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: IDC's ``coreset.py`` uses the features of ResNetAP-10 for ImageNet subsets and of ConvNet-3 for small images.
FEATURE_PRESETS = (
    {
        "when": {"scale": "paper", "dataset": "imagenette"},
        "set": {"network": "resnet-ap-10"},
        "source": "Kim et al. 2022 (IDC), coreset.py",
    },
)

#: Chooses ``ipc`` of the n images of a class: gets the label and the images' positions, returns indices into them.
Choice = Callable[[int, "NDArray[np.int64]"], "NDArray[np.int64]"]


def select(ctx: ddbench.Context, choose: Choice, extra: dict[str, Any] | None = None) -> ddbench.DistilledSet:
    """Select images class by class and return them with their ids, class-major, in the order chosen."""
    dataset = ctx.dataset
    chosen = []
    with ctx.progress("selecting", dataset.num_classes) as advance:
        for label in range(dataset.num_classes):
            members = dataset.train.of_class(label)
            chosen.append(members[choose(label, members)])
            advance(label + 1)
    positions = np.concatenate(chosen)
    return ddbench.DistilledSet(
        images=dataset.train.images.batch(positions.tolist(), dataset.image_size),
        labels=dataset.train.labels[positions],
        source_ids=tuple(dataset.train.ids[i] for i in positions),
        extra=extra or {},
    )


class FeatureSelection(ddbench.Distiller):
    """Selects real images by their features in a network that was trained on the whole training set.

    Images are normalised but not augmented; features, which are what the network's classifier sees, are not normalised.
    """

    class Options(ddbench.Options):
        """Options of selection by features."""

        network: str = Field(
            "convnet-3-bn",
            description="Network whose features are used; trained on all training images.",
            json_schema_extra={"names": "network"},
        )

    presets = FEATURE_PRESETS
    seeded = False  # the network is trained with a seed of its own, and shared by all runs

    @staticmethod
    def order(features: NDArray[np.float32], ipc: int) -> NDArray[np.int64]:
        """Return the indices of ``ipc`` of n samples, for features [n, d], in the order in which they are chosen."""
        raise NotImplementedError

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the trained network."""
        from ddbench_plugins.teachers.observers import teacher_of

        return [teacher_of(ctx, ctx.options.network)]

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Select ``ctx.ipc`` images per class."""
        from ddbench_plugins.teachers.observers import get_teacher

        dataset, budget = ctx.dataset, ipc_of(ctx)
        # A weak network makes a weak selection, not a misleading label, so there is no floor; its accuracy is recorded.
        teacher = get_teacher(ctx, ctx.options.network, floor=False)

        def choose(label: int, members: NDArray[np.int64]) -> NDArray[np.int64]:
            images = dataset.train.images.batch(members.tolist(), dataset.image_size)
            return self.order(teacher.features(images), budget)

        return select(ctx, choose, {"teacher": teacher.describe()})


def ipc_of(ctx: ddbench.Context) -> int:
    """Return the images per class of a run that has a budget."""
    if ctx.ipc is None:
        raise ddbench.UsageError("This method needs a number of images per class.", hint="Set it with --ipc.")
    return ctx.ipc


def squared_norms(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared length of each row."""
    norms: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows)
    return norms


def dot(rows: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the product of each row with a vector.

    Not BLAS: its kernels may round equal rows differently, which would break ties at random.
    """
    products: NDArray[np.float64] = np.einsum("ij,j->i", rows, vector)
    return products


def as_rows(features: NDArray[Any]) -> NDArray[np.float64]:
    """Return features as float64 [n, d]."""
    return np.ascontiguousarray(features, np.float64).reshape(len(features), -1)
