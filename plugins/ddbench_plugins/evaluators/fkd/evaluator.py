"""The FKD protocol of SRe2L and D4M: a teacher labels every augmented batch once, and students replay them.

Yin, Xing, Shen, *Squeeze, Recover and Relabel*, NeurIPS 2023 (relabel/, validate/train_FKD.py, small_dataset/);
Su et al., *D4M*, CVPR 2024 (matching/, validate/). Storing labels of augmented views is of Shen and Xing, ECCV 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options, UsageError
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.training.recipe import StudentRecipe, from_options

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ddbench import CachedStep, StepCall
    from ddbench_plugins.evaluators.fkd.labelling import Plan
    from ddbench_plugins.teachers.observers import Observer
    from ddbench_plugins.training.optimisers import OptimiserFactory
    from ddbench_plugins.training.schedules import Schedule
    from ddbench_plugins.training.steps import Batches

#: Data sets for which SRe2L's code has a setting of its own.
PUBLISHED = ("cifar100", "tiny-imagenet", "imagenet-1k")


class FkdOptions(Options):
    """Options of the protocol; the defaults are DD-Ranking's setting for CIFAR-10, which SRe2L lacks."""

    labels: Literal["stored", "online", "fixed", "hard"] = Field(
        "stored",
        description="stored: label every augmented view once and replay it to every student; online: ask the teacher in"
        " every step; fixed: one soft label per image, of the image as it is; hard: the class, no teacher",
    )
    top_k: int | None = Field(
        None, ge=1, description="keep the largest logits only, the other classes sharing the rest; all when none"
    )
    teacher: str = Field(
        "", description="network of the teacher; the student's when empty", json_schema_extra={"names": "network"}
    )
    teacher_file: str = Field(
        "",
        description="safetensors file of a trained teacher instead of training one",
        json_schema_extra={"file": True},
    )
    teacher_mode: Literal["eval", "train"] = Field(
        "eval", description="whether the teacher's batch norm uses its own statistics or those of each batch"
    )
    normalisation: Literal["dataset", "cifar10", "imagenet", "tiny-imagenet"] = Field(
        "dataset", description="constants of student and teacher inputs"
    )
    epochs: int = Field(400, ge=1, description="passes over the distilled set")
    batch_size: int = Field(256, ge=1, description="images per step, at most the set")
    accumulation: int = Field(1, ge=1, description="parts of a full batch that batch norm sees one at a time")
    optimiser: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="AdamW or Adam with betas 0.9, 0.999, or SGD"
    )
    lr: float = Field(0.001, gt=0, description="initial learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(0.01, ge=0, description="of the parameters that decay")
    decay: Literal["matrices", "all"] = Field("all", description="which parameters decay")
    schedule: Literal["cosine", "half_cosine", "linear", "warmup_cosine"] = Field(
        "half_cosine",
        description="cosine to 0; to one half; linear to 0; 5 epochs of linear warm-up, then cosine to 0",
    )
    temperature: float = Field(30.0, gt=0, description="of both softmaxes in the KL loss")
    scale_by_t2: bool = Field(False, description="multiply the loss by T²")
    mix: Literal["cutmix", "mixup", "none"] = Field("mixup", description="how images of a batch are mixed")
    mixup_alpha: float = Field(0.8, gt=0, description="mixup draws its share from Beta(α, α)")
    crop: Literal["resized", "padded", "none"] = Field(
        "padded", description="random resized crop, or random crop of the padded image"
    )
    crop_scale: float = Field(0.08, gt=0, le=1, description="smallest area of a resized crop, of the whole image")
    padding: int = Field(4, ge=1, description="black pixels on each side before a padded crop")
    test_resize: bool = Field(False, description="test at 8/7 of the side, centre-cropped, as 256 → 224")
    test_every: int = Field(20, ge=1, description="epochs between tests under best_test")
    selection: Literal["last", "best_test"] = Field(
        "last", description="headline accuracy: after the last epoch, or the best of the tests"
    )


@dataclass(frozen=True, kw_only=True)
class FkdRecipe(StudentRecipe):
    """Soft labels of ``teacher`` and KL, or ``classes`` [N] and cross-entropy; all else is as in the options."""

    options: FkdOptions
    teacher: Observer | None
    classes: NDArray[Any] | None = None

    @property
    def test_epochs(self) -> list[int]:
        """0-based epochs with a test."""
        return test_epochs(self.epochs, self.selection, self.options.test_every)

    @property
    def test_resize(self) -> int:
        """Side to which test images are resized before the centre crop."""
        size = self.dataset.image_size
        return size // 7 * 8 if self.options.test_resize else size

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states, the teacher's measured accuracy included."""
        soft = self.teacher is not None
        return {
            "label_type": "soft" if soft else "hard",
            "loss": "KL(teacher || student), batchmean" if soft else "cross-entropy, weighted by the shares of a mix",
            "image_size": self.dataset.image_size,
            "flip": self.dataset.flip,
            **self.options.model_dump(exclude={"teacher", "teacher_file"}),
            **({"teacher": self.teacher.describe()} if self.teacher else {}),
        }

    @property
    def optimiser(self) -> OptimiserFactory:
        """AdamW or SGD."""
        from ddbench_plugins.training.optimisers import OPTIMISERS

        momentum = {"momentum": self.options.momentum} if self.options.optimiser == "sgd" else {}
        decay = {"weight_decay": self.weight_decay, "decay": self.options.decay}
        return OPTIMISERS[self.options.optimiser](self.lr, **decay, **momentum)

    @property
    def schedule(self) -> Schedule:
        """Of the learning rate."""
        from ddbench_plugins.training.schedules import SCHEDULES

        return SCHEDULES[self.options.schedule](self.epochs)

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return the labelled batches, optimiser, schedule and loss."""
        from ddbench_plugins.training import steps
        from ddbench_plugins.training.augment import normalise

        return {
            "augment": normalise(*self.constants),
            "batches": self._batches(ctx, images.to(ctx.machine.device), repeat),
            "optimiser": self.optimiser,
            "schedule": self.schedule,
            "step": steps.given_label_step(self.loss, part_size=part_size(self.options)),
        }

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Of a batch: (logits of the student, labels) → mean."""
        from torch.nn.functional import cross_entropy

        from ddbench_plugins.training.losses import kl_soft_label

        options = self.options
        if options.labels == "hard":
            return lambda student, shares: cross_entropy(student.float(), shares)
        return partial(kl_soft_label, temperature=options.temperature, scale_by_t2=options.scale_by_t2)

    def _batches(self, ctx: Context, images: Tensor, repeat: int) -> Batches:
        """Return the batches of one student; but for stored labels, all kinds of labels see the same views."""
        from ddbench_plugins.evaluators.fkd import labelling
        from ddbench_plugins.evaluators.fkd.soft_labels import Labeller, SoftLabels, soft_labels

        plan = make_plan(ctx, repeat)
        if self.teacher is None:
            return labelling.hard_batches(images, self.classes, self.dataset.num_classes, plan)
        mode, teacher = self.options.teacher_mode, self.teacher

        def module() -> nn.Module:
            network: nn.Module = teacher.module().train(mode == "train")
            return network

        if self.options.labels == "online":
            return labelling.online_batches(images, module(), plan, ctx.machine.precision)
        shared = make_plan(ctx, 0)
        shared = shared.plain() if self.options.labels == "fixed" else shared
        identity = {**teacher.describe(), "weights": teacher.digest, "mode": mode}
        stored = SoftLabels(soft_labels(ctx, images, shared, Labeller(identity, module)).dir)
        if self.options.labels == "fixed":
            return labelling.fixed_batches(images, stored.table(), self.options.temperature, plan)
        return stored.batches(images, shared.recipe)


class Fkd(StudentEvaluator):
    """Soft labels of augmented batches, stored beforehand or online; KL, AdamW or SGD."""

    Options = FkdOptions
    Recipe = FkdRecipe
    presets = "fkd.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet with batch norm on a CPU; the papers' ResNet-18 (modified stem up to 64 pixels) at paper scale."""
        return "modified-resnet-18" if scale == "paper" else "convnet-3-bn"

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse to keep more logits than there are."""
        options: FkdOptions = ctx.options
        if options.top_k is not None and options.top_k >= ctx.dataset.num_classes:
            raise UsageError(
                f"top_k={options.top_k} leaves none of the {ctx.dataset.num_classes} classes out.",
                hint="Set it to none to keep all logits.",
            )

    def steps(self, ctx: Context) -> list[CachedStep[Any] | StepCall]:
        """Return the teachers, and their labels where they are stored."""
        from ddbench_plugins.evaluators.fkd.soft_labels import soft_labels
        from ddbench_plugins.teachers.observers import teacher_of

        labels = ctx.options.labels
        teachers = [] if labels == "hard" else [teacher_of(ctx, *asked) for asked in self.teachers(ctx)]
        return [*teachers, *([soft_labels] if labels in ("stored", "fixed") else [])]

    def extension(self, ctx: Context) -> str:
        """Say whose setting is used where SRe2L's code has none for the data set."""
        return extension(ctx)

    def teachers(self, ctx: Context) -> list[tuple[str, str, str]]:
        """Return which teachers are asked: network, normalisation, file of each."""
        options: FkdOptions = ctx.options
        return [(options.teacher or ctx.network, options.normalisation, options.teacher_file)]

    def recipe(self, ctx: Context, distilled: DistilledSet) -> FkdRecipe:
        """Return the options with the teacher, or with the classes of the distilled images."""
        options: FkdOptions = ctx.options
        teacher = None if options.labels == "hard" else self._teacher(ctx)
        return self.Recipe.of(ctx, options, options=options, teacher=teacher, classes=distilled.labels)

    def _teacher(self, ctx: Context) -> Observer:
        from ddbench_plugins.teachers.observers import get_teacher

        (asked,) = self.teachers(ctx)
        return get_teacher(ctx, *asked)


def make_plan(ctx: Context, repeat: int) -> Plan:
    """Return which labels a student learns: stored ones are those of repeat 0 for all, online ones its own."""
    from ddbench_plugins.evaluators.fkd.labelling import Plan
    from ddbench_plugins.evaluators.fkd.views import ViewRecipe
    from ddbench_plugins.training.normalisation import constants

    options: FkdOptions = ctx.options
    mean, std = constants(ctx.dataset, options.normalisation)
    recipe = from_options(ViewRecipe, options, flip=ctx.dataset.flip, mean=tuple(mean), std=tuple(std))
    return from_options(Plan, options, recipe=recipe, seed=ctx.seed("views", repeat))


def part_size(options: FkdOptions) -> int:
    """Images that batch norm sees at a time; a smaller last or only batch is not cut finer (SRe2L train_FKD.py)."""
    return math.ceil(options.batch_size / options.accumulation)


def test_epochs(epochs: int, selection: str, every: int) -> list[int]:
    """0-based epochs with a test: the last; under ``best_test`` also 0, every, 2·every, … (SRe2L train_FKD.py)."""
    return sorted({*(range(0, epochs, every) if selection == "best_test" else ()), epochs - 1})


def extension(ctx: Context) -> str:
    """Say whose setting is used where SRe2L's code has none for the data set."""
    if ctx.dataset.name in PUBLISHED:
        return ""
    large = any("ImageNet-1K" in source for source in ctx.resolved.sources.values())
    return (
        "SRe2L's setting for ImageNet-1K on a data set for which it has none"
        if large
        else "DD-Ranking's setting for CIFAR-10, without its search of the learning rate on test images"
    )
