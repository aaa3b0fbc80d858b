"""RDED: the crops that a teacher finds most realistic, several in one image (Sun et al. 2024, synthesize/main.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

import ddbench
from ddbench_plugins.methods.selection import ipc_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from torch import Tensor

    from ddbench_plugins.teachers.observers import Observer


class RdedOptions(ddbench.Options):
    """Options of RDED; the defaults are those of its scripts."""

    network: str = Field(
        "convnet-3-bn",
        description="network of the teacher that scores the crops",
        json_schema_extra={"names": "network"},
    )
    teacher_file: str = Field(
        "",
        description="file with a trained teacher's weights instead of training one",
        json_schema_extra={"file": True},
    )
    normalisation: Literal["dataset", "imagenet"] = Field(
        "dataset", description="constants of the teacher's inputs; the released code always uses ImageNet's"
    )
    pool: int = Field(
        300, ge=1, description="training images per class that are looked at (mipc); all if there are fewer"
    )
    crops: int = Field(5, ge=1, description="random crops per image, of which the best is kept (num_crop)")
    factor: int = Field(1, ge=1, description="factor × factor crops are stitched into one image")
    jpeg: bool = Field(False, description="cut to whole values and compress as the released code does (JPEG)")


class RDED(ddbench.Distiller):
    """Crops of real images, ranked by the teacher's cross-entropy; no optimisation."""

    Options = RdedOptions
    presets = "presets.toml"

    def identity(self, ctx: ddbench.Context) -> dict[str, Any]:
        """Return which teacher is asked."""
        from ddbench_plugins.teachers.observers import teacher_identity

        return teacher_identity(ctx, ctx.options.network, ctx.options.teacher_file)

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the teacher."""
        from ddbench_plugins.teachers.observers import teacher_of

        options: RdedOptions = ctx.options
        return [teacher_of(ctx, options.network, options.normalisation, options.teacher_file)]

    def work(self, ctx: ddbench.Context) -> float:
        """Crops that the teacher judges."""
        options: RdedOptions = ctx.options
        data = ctx.dataset
        return options.crops * sum(min(count, options.pool) for count in data.train.counts(data.num_classes))

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` images per class, each of factor² crops, the most realistic ones first."""
        import torch

        from ddbench_plugins.methods.rded import patches
        from ddbench_plugins.teachers.observers import get_teacher
        from ddbench_plugins.training.engine import Functions, Loop
        from ddbench_plugins.training.formation import stitch
        from ddbench_plugins.training.pixels import through_jpeg, to_bytes
        from ddbench_plugins.training.seeding import make_generator

        options: RdedOptions = ctx.options
        data, ipc = ctx.dataset, ipc_of(ctx)
        needed = ipc * options.factor**2
        teacher = get_teacher(ctx, options.network, options.normalisation, options.teacher_file)
        images: list[NDArray[np.uint8]] = []
        losses: list[list[float]] = []

        def crop(label: int) -> dict[str, float]:
            members = data.train.of_class(label)
            chosen = members[ctx.rng("rded pool", label).permutation(len(members))[: options.pool]]
            pixels = data.train.images.batch(chosen.tolist(), data.image_size)
            best = patches.best_crops(
                torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
                self._losses(ctx, teacher, label),
                crops=options.crops,
                side=data.image_size // options.factor,
                fill=teacher.mean,
                size=data.image_size,
                generator=make_generator(ctx.seed("rded crops", label)),
            )
            whole = stitch(best.crops[:needed], options.factor, data.image_size)
            images.append(to_bytes(whole, truncate=options.jpeg))
            losses.append(best.losses[:needed].tolist())
            return {}

        def state() -> dict[str, Any]:
            return {"images": torch.from_numpy(np.concatenate(images)), "losses": losses}

        def restore(state: dict[str, Any]) -> None:
            images.append(state["images"].numpy())
            losses.extend(state["losses"])

        with ctx.progress("cropping", data.num_classes) as advance:
            loop = Loop.of(ctx, advance)
            loop.run(Functions(crop, state, restore), data.num_classes, name="the crops")
        pixels = np.concatenate(images)
        return ddbench.DistilledSet(
            images=through_jpeg(pixels) if options.jpeg else pixels,
            labels=np.arange(data.num_classes).repeat(ipc),
            extra={
                "teacher": teacher.describe(),
                "cross_entropy": {
                    "first": _mean(of_class[0] for of_class in losses),
                    "last": _mean(of_class[-1] for of_class in losses),
                },
            },
        )

    @staticmethod
    def _losses(ctx: ddbench.Context, teacher: Observer, label: int) -> Callable[[Tensor], Tensor]:
        from torch.nn.functional import cross_entropy

        from ddbench_plugins.training.augment import normalise
        from ddbench_plugins.training.predict import predict

        machine, scaled = ctx.machine, normalise(teacher.mean, teacher.std)

        def losses(crops: Tensor) -> Tensor:
            logits = predict(
                teacher.module(), crops, transform=scaled, precision=machine.precision, device=machine.device
            )
            return cross_entropy(logits, crops.new_full((len(crops),), label).long(), reduction="none")

        return losses

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse more crops than images, or than fit into one."""
        options: RdedOptions = ctx.options
        data, needed = ctx.dataset, ipc_of(ctx) * options.factor**2
        smallest = min(data.train.counts(data.num_classes))
        if needed > min(options.pool, smallest):
            raise ddbench.UsageError(
                f"RDED needs {needed} images per class, one per crop, but looks at {min(options.pool, smallest)}.",
                hint="Raise method.pool, or lower --ipc or method.factor.",
            )
        if data.image_size < options.factor:
            raise ddbench.UsageError(f"Images of {data.image_size} pixels cannot hold {options.factor} crops in a row.")


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)
