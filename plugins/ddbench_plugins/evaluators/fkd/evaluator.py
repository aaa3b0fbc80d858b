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

    labels: Literal["stored", "online"] = Field(
        "stored", description="label once and replay to every student, or ask the teacher in every step"
    )
    top_k: int | None = Field(
        None, ge=1, description="keep the largest logits only, the other classes sharing the rest; all when none"
    )
    teacher: str = Field("", description="network of the teacher; the student's when empty")
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
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="AdamW with betas 0.9, 0.999, or SGD")
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
    """Soft labels of ``teacher``, KL; all else is as in the options."""

    options: FkdOptions
    teacher: Observer

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
        return {
            "label_type": "soft",
            "loss": "KL(teacher || student), batchmean",
            "image_size": self.dataset.image_size,
            "flip": self.dataset.flip,
            **self.options.model_dump(exclude={"teacher", "teacher_file"}),
            "teacher": self.teacher.describe(),
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
        from ddbench_plugins.training import losses, steps
        from ddbench_plugins.training.augment import normalise

        options = self.options
        loss = partial(losses.kl_soft_label, temperature=options.temperature, scale_by_t2=options.scale_by_t2)
        return {
            "augment": normalise(*self.constants),
            "batches": self._batches(ctx, images.to(ctx.machine.device), repeat),
            "optimiser": self.optimiser,
            "schedule": self.schedule,
            "step": steps.given_label_step(loss, part_size=part_size(options)),
        }

    def _batches(self, ctx: Context, images: Tensor, repeat: int) -> Batches:
        from ddbench_plugins.evaluators.fkd.labelling import online_batches
        from ddbench_plugins.evaluators.fkd.soft_labels import Labeller, SoftLabels, soft_labels

        mode = self.options.teacher_mode

        def module() -> nn.Module:
            network: nn.Module = self.teacher.module().train(mode == "train")
            return network

        if self.options.labels == "online":
            return online_batches(images, module(), make_plan(ctx, repeat), ctx.machine.precision)
        plan = make_plan(ctx, 0)
        identity = {**self.teacher.describe(), "weights": self.teacher.digest, "mode": mode}
        return SoftLabels(soft_labels(ctx, images, plan, Labeller(identity, module)).dir).batches(images, plan.recipe)


class Fkd(StudentEvaluator):
    """Soft labels of augmented batches, stored beforehand or online; KL, AdamW or SGD."""

    Options = FkdOptions
    presets = "fkd.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet with batch norm on a CPU; the papers' ResNet-18 (modified stem up to 64 pixels) at paper scale."""
        return "modified-resnet-18" if scale == "paper" else "convnet-3-bn"

    def steps(self, ctx: Context) -> list[CachedStep[Any] | StepCall]:
        """Return the teacher, and its labels where they are stored."""
        from ddbench_plugins.evaluators.fkd.soft_labels import soft_labels
        from ddbench_plugins.teachers.observers import teacher_of

        return [teacher_of(ctx, *_asked(ctx)), *([soft_labels] if ctx.options.labels == "stored" else [])]

    def extension(self, ctx: Context) -> str:
        """Say whose setting is used where SRe2L's code has none for the data set."""
        return extension(ctx)

    def recipe(self, ctx: Context, distilled: DistilledSet) -> FkdRecipe:
        """Return the options with the teacher."""
        from ddbench_plugins.teachers.observers import get_teacher

        options: FkdOptions = ctx.options
        if options.top_k is not None and options.top_k >= ctx.dataset.num_classes:
            raise UsageError(
                f"top_k={options.top_k} leaves none of the {ctx.dataset.num_classes} classes out.",
                hint="Set it to none to keep all logits.",
            )
        return FkdRecipe.of(ctx, options, options=options, teacher=get_teacher(ctx, *_asked(ctx)))


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


def _asked(ctx: Context) -> tuple[str, str, str]:
    options: FkdOptions = ctx.options
    return options.teacher or ctx.network, options.normalisation, options.teacher_file
