"""SRe2L: squeeze (train a teacher), recover (invert it); relabelling is the evaluator's (Yin et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PRECISIONS
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.recipe import refuse_unused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench_plugins.methods.sre2l.recover import Batch, Recovery


STATISTICS = ("statistics_images", "statistics_views", "statistics_batch")
PATCHES = ("patch", "drop", "exchanged_patches")
#: Options of how statistics are compared.
COMPARED = (
    *("first_bn", "variance_weight", "memory", "memory_from_zero", "convolutions", "class_share"),
    *PATCHES,
    *STATISTICS,
)


class Sre2lOptions(ddbench.Options):
    """Options of the recovery; the defaults are those of the CIFAR script."""

    network: str = Field(
        "convnet-3-bn",
        description="network of the teacher; it must have batch norm",
        json_schema_extra={"names": "network"},
    )
    teacher_file: str = Field(
        "",
        description="file with a trained teacher's weights instead of training one",
        json_schema_extra={"file": True},
    )
    normalisation: Literal["dataset", "cifar10", "imagenet", "tiny-imagenet"] = Field(
        "dataset", description="constants of the teacher's inputs; the released code uses CIFAR-10's on CIFAR-100"
    )
    iterations: int = Field(1000, ge=1, description="steps of Adam per image")
    lr: float = Field(0.25, gt=0, description="Adam's learning rate, falling to zero along a cosine")
    bn_weight: float = Field(0.01, ge=0, description="weight of the batch-norm statistics (r_bn); 0 switches them off")
    first_bn: float = Field(10.0, ge=0, description="extra weight of the first batch norm")
    jitter: int = Field(4, ge=0, description="largest random roll in pixels and both directions, 0 to this")
    jitter_centred: bool = Field(False, description="rolls from −jitter to jitter instead of 0 to jitter")
    crop: bool = Field(False, description="random resized crop and flip, one draw for the whole batch")
    tv_weight: float = Field(0.0, ge=0, description="weight of the total variation")
    l2_weight: float = Field(0.0, ge=0, description="weight of the images' norm")
    chunk: int = Field(100, ge=1, description="images recovered together; they share batch statistics")
    together: Literal["classes", "set", "class"] = Field(
        "set",
        description="what fills a chunk: one image of each class, as in the released code (classes), or several (set),"
        " so that ten classes do not leave chunks of ten; or one class after the other (class)",
    )
    jpeg: bool = Field(False, description="cut to whole values and compress as the released code does (JPEG)")

    @property
    def flips(self) -> bool:
        """Whether images are mirrored, where the data set allows it."""
        return self.crop


class SRe2L(ddbench.Distiller):
    """Images from noise: cross-entropy plus the distance to a teacher's batch-norm statistics."""

    Options: ClassVar[type[Sre2lOptions]] = Sre2lOptions
    presets: ClassVar[str | Sequence[str]] = ("presets.toml", "sre2l.toml")
    precisions = PRECISIONS

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse networks without the statistics that images are recovered from, and options that change nothing."""
        if not ctx.resolved.explicit:
            return  # those of presets fit, and need no torch to be built
        from ddbench_plugins.methods.sre2l.statistics import layers

        for why, names in self.unused(ctx.options).items():
            refuse_unused(ctx, names, why)
        settings = self._settings(ctx)
        for number, (name, *_) in enumerate(self.asked(ctx) if settings.bn_weight > 0 else ()):
            if not layers(ctx.build_network(name, seed=0), settings.convolutions):
                option = "method.ring=[…]" if number else "method.network=convnet-3-bn"
                raise ddbench.UsageError(
                    f"{type(self).__name__} recovers images from batch-norm statistics, and {name} has none.",
                    hint=f"Choose a network with batch norm ({option}), or set method.bn_weight=0.",
                )

    def unused(self, options: Any) -> dict[str, tuple[str, ...]]:
        """Return reason → options that change nothing because of others."""
        unused: dict[str, tuple[str, ...]] = {}
        if not options.crop:
            unused["Nothing is cropped (crop=false)"] = ("curriculum", "milestone", "smallest_crop")
        if not options.jitter:
            unused["Nothing is rolled (jitter=0)"] = ("jitter_centred",)
        if not options.bn_weight:
            unused["No statistics are compared (bn_weight=0)"] = COMPARED
        return unused

    def identity(self, ctx: ddbench.Context) -> dict[str, Any]:
        """Return which teacher is asked."""
        from ddbench_plugins.teachers.observers import teacher_identity

        return teacher_identity(ctx, ctx.options.network, ctx.options.teacher_file)

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the teacher."""
        from ddbench_plugins.teachers.observers import teacher_of

        return [teacher_of(ctx, *asked) for asked in self.asked(ctx)]

    def asked(self, ctx: ddbench.Context) -> list[tuple[str, str, str]]:
        """Return the teachers, which take turns: network, normalisation, file of each."""
        options: Sre2lOptions = ctx.options
        return [(options.network, options.normalisation, options.teacher_file)]

    def real(self, ctx: ddbench.Context) -> list[dict[str, Tensor]]:
        """Return for each teacher the statistics of real images in its layers, where they are compared."""
        return []

    def work(self, ctx: ddbench.Context) -> float:
        """Images × iterations."""
        return ctx.dataset.num_classes * (ctx.ipc or 1) * float(ctx.options.iterations)

    def initial(self, ctx: ddbench.Context) -> Tensor | None:
        """Return what the images begin as, uint8 [K·ipc, C, S, S], class by class; None for noise."""
        return None

    def starts(self, ctx: ddbench.Context) -> Tensor | None:
        """Return the first iteration that changes each image, [K·ipc], class by class; None for all the first."""
        return None

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` recovered images per class."""
        from ddbench_plugins.methods.sre2l import recover
        from ddbench_plugins.teachers.observers import get_teacher
        from ddbench_plugins.training.engine import Loop
        from ddbench_plugins.training.pixels import through_jpeg, to_bytes

        options: Sre2lOptions = ctx.options
        settings = self._settings(ctx)
        order, batches = self._batches(ctx)
        # The others of several may be as weak as their papers', which train each for five epochs on CIFAR-10.
        teachers = [get_teacher(ctx, *asked, floor=not number) for number, asked in enumerate(self.asked(ctx))]
        with ctx.progress("recovering", sum(batch.iterations(options.iterations) for batch in batches)) as advance:
            recovered = recover.recover(
                [teacher.module() for teacher in teachers],
                batches,
                settings,
                seed=ctx.seed("sre2l"),
                real=self.real(ctx),
                loop=Loop.of(ctx, advance),
            )
        images = to_bytes(recovered.images[order.argsort()], truncate=options.jpeg)
        return ddbench.DistilledSet(
            images=through_jpeg(images) if options.jpeg else images,
            labels=np.arange(ctx.dataset.num_classes).repeat(ipc_of(ctx)),
            extra={
                "teacher": teachers[0].describe(),
                **({"ring": [teacher.describe() for teacher in teachers[1:]]} if teachers[1:] else {}),
                "losses": recovered.losses,
            },
        )

    def _batches(self, ctx: ddbench.Context) -> tuple[Tensor, list[Batch]]:
        """Return the images' numbers, class by class, in the order of recovery, and what is recovered together."""
        import torch

        from ddbench_plugins.methods.sre2l.recover import Batch

        options: Sre2lOptions = ctx.options
        classes, ipc = ctx.dataset.num_classes, ipc_of(ctx)
        initial, starts = self.initial(ctx), self.starts(ctx)
        numbers = torch.arange(classes * ipc).view(classes, ipc)
        # One image per class after the other, as the released code's loop over image numbers.
        numbers = numbers.flatten() if options.together == "class" else numbers.T.flatten()
        parts = numbers.split(classes if options.together == "classes" else len(numbers))
        order, batches = [], []
        for part, whole in enumerate(parts):
            for chosen in whole.split(options.chunk):
                members = chosen if starts is None else chosen[starts[chosen].argsort(stable=True)]
                images, first = (of_all if of_all is None else of_all[members] for of_all in (initial, starts))
                order.append(members)
                batches.append(Batch(members // ipc, images, first, part))
        return torch.cat(order), batches

    @staticmethod
    def _settings(ctx: ddbench.Context) -> Recovery:
        from ddbench_plugins.methods.sre2l.recover import Recovery
        from ddbench_plugins.training.normalisation import constants
        from ddbench_plugins.training.recipe import from_options

        options: Sre2lOptions = ctx.options
        mean, std = constants(ctx.dataset, options.normalisation)
        return from_options(
            Recovery,
            options,
            jitter=(-options.jitter if options.jitter_centred else 0, options.jitter),
            flip=options.flips and ctx.dataset.flip,
            size=ctx.dataset.image_size,
            channels=ctx.dataset.channels,
            mean=tuple(mean),
            std=tuple(std),
        )
