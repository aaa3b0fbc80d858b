"""Coverage, density, precision, recall, Fréchet and kernel distance, recognition, copies; no network is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from ddbench import Context, DistilledSet, Evaluator, Options, Protocol, Score, StepCall, UsageError, step

if TYPE_CHECKING:
    from collections.abc import Collection

    from ddbench import Step
    from ddbench_plugins.teachers.observers import Observer

#: Test images that tell how near to a training image a new one comes, and the share of them that come nearer.
HELD_OUT, NEAREST = 1000, 0.01


class QualityOptions(Options):
    """Options of the figures."""

    teacher: str = Field(
        "convnet-3-bn",
        description="network, trained on the whole training set, whose features count",
        json_schema_extra={"names": "network"},
    )
    k: int = Field(5, ge=1, description="nearest neighbours that a ball around an image reaches to")


class Quality(Evaluator):
    """Compares a set with the real test images; the headline is 1-nearest-neighbour accuracy in the same features.

    Test images are the reference, because selected images are among the training images themselves.
    """

    Options = QualityOptions
    default_repeats = 1  # nothing is random
    needs_network = False
    label_kinds = ("probabilities", "centred", "free")  # classes alone count

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse to ask for more neighbours than there are test images."""
        if ctx.options.k >= (most := len(ctx.dataset.test)):
            raise UsageError(
                f"{ctx.options.k} neighbours of each of {most} test images.", hint=f"Choose eval.k below {most}."
            )

    def needs(self, ctx: Context, distilled: DistilledSet, repeat: int) -> list[StepCall]:
        """Return the network, and what is measured of real images alone."""
        from ddbench_plugins.teachers.observers import teacher_of

        options: QualityOptions = ctx.options
        return [teacher_of(ctx, options.teacher), reference.of(ctx, options.teacher, options.k), nearness.of(ctx)]

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        return Protocol(
            {
                "network": ctx.network,
                "label_type": "hard",
                "selection": "last",
                "classifier": "nearest image of the set",
                "reference": "test images",
                "k": ctx.options.k,
                "teacher": _teacher(ctx, ctx.options.teacher).describe(),
                "image_size": ctx.dataset.image_size,
            }
        )

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Measure the set."""
        from ddbench_plugins.diffusion.acceptance import nearest_distances
        from ddbench_plugins.evaluators.quality.distances import frechet, kernel_distance, neighbours
        from ddbench_plugins.training.pixels import as_bytes
        from ddbench_plugins.training.students import training_tensors

        data, options = ctx.dataset, ctx.options
        teacher = _teacher(ctx, options.teacher)
        images = training_tensors(distilled, data, data.image_size)[0].numpy().transpose(0, 2, 3, 1)
        there = reference(ctx, options.teacher, options.k).dir
        real, reach = (np.load(there / f"{name}.npy", allow_pickle=False) for name in ("features", "radii"))
        made = teacher.features(images)
        found = neighbours(real, made, reach, options.k)
        pixels = images if images.dtype == np.uint8 else as_bytes(np.rint(images.clip(0, 1) * 255))
        distances = nearest_distances(pixels, data.arrays("train")[0])
        nearest = nearness(ctx).info["nearest"]
        several = (
            {"frechet": frechet(real, made), "kernel_distance": kernel_distance(real, made)} if len(made) > 1 else {}
        )
        figures = {
            **found.figures,
            **several,
            "recognised": float((teacher.predict(images) == distilled.labels).mean()),
            # Equal images are copies even where test images are in the training set, too.
            "copies": float(((distances < nearest) | (distances == 0)).mean()),
        }
        correct = distilled.labels[found.nearest] == data.test.labels
        return Score(float(correct.mean()), correct, metrics=figures)


@step(
    needs=lambda ctx, network, k: [_teacher_step(ctx, network)],
    work=lambda ctx, network, k: len(ctx.dataset.test),
)
def reference(ctx: Context, out: Step, network: str, k: int) -> None:
    """Keep the features of the test images in a network, and the distance of each to its k-th nearest other one."""
    from ddbench_plugins.evaluators.quality.distances import radii

    features = _teacher(ctx, network).features(ctx.dataset.arrays("test")[0])
    np.save(out.dir / "features.npy", features)
    np.save(out.dir / "radii.npy", radii(features, k))


@step(work=lambda ctx: len(ctx.dataset.train))
def nearness(ctx: Context, out: Step) -> None:
    """Measure how near to a training image test images come: what is nearer than the nearest of them is a copy."""
    from ddbench_plugins.diffusion.acceptance import nearest_distances

    chosen = np.linspace(0, len(ctx.dataset.test) - 1, min(HELD_OUT, len(ctx.dataset.test))).astype(int)
    held_out = ctx.dataset.test.images.batch(chosen.tolist(), ctx.dataset.image_size)
    distances = nearest_distances(held_out, ctx.dataset.arrays("train")[0])
    out.info["nearest"] = float(np.quantile(distances, NEAREST))


def _teacher(ctx: Context, network: str) -> Observer:
    from ddbench_plugins.teachers.observers import get_teacher

    return get_teacher(ctx, network, floor=False)


def _teacher_step(ctx: Context, network: str) -> StepCall:
    from ddbench_plugins.teachers.observers import teacher_of

    return teacher_of(ctx, network)
