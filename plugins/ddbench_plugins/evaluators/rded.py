"""The RDED protocol: a teacher labels every augmented batch as it is met (Sun et al. 2024, validation/main.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.training.recipe import StudentRecipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from ddbench import CachedStep, StepCall
    from ddbench_plugins.teachers.observers import Observer


class RdedOptions(Options):
    """Options of the protocol; the defaults are RDED's own."""

    epochs: int = Field(300, ge=1, description="passes over the distilled set")
    batch_size: int | None = Field(None, ge=1, description="images per step; by IPC and classes when none")
    lr: float = Field(0.001, gt=0, description="AdamW's learning rate, by student")
    weight_decay: float = Field(0.01, ge=0, description="on weight matrices only")
    temperature: float = Field(20.0, gt=0, description="of both softmaxes in the KL loss (no T² factor)")
    factor: int = Field(
        1, ge=1, description="patch shuffle of factor × factor tiles and random crops of scale (1/factor, 1)"
    )
    selection: Literal["last", "best_test"] = Field(
        "last", description="headline accuracy: after the last epoch, or the best of the tests in the last fifth"
    )
    update_batchnorm_twice: bool = Field(
        False, description="update running statistics twice per step, as the released logging pass does"
    )
    normalisation: Literal["dataset", "imagenet"] = Field(
        "dataset", description="constants of student and teacher inputs"
    )
    teacher: str = Field(
        "",
        description="network of the teacher, or published weights (timm:resnet18.tv_in1k); the student's when empty",
        json_schema_extra={"names": "network"},
    )
    teacher_file: str = Field(
        "", description=".safetensors or .pth file with the teacher's weights", json_schema_extra={"file": True}
    )
    teacher_normalisation: Literal["auto", "dataset", "imagenet", "inception"] = Field(
        "auto", description="constants of the teacher's own inputs; auto: those of its weights where they are known"
    )


@dataclass(frozen=True, kw_only=True)
class RdedRecipe(StudentRecipe):
    """Soft labels of ``teacher``, KL without T², CutMix, AdamW, half cosine; the rest as in the options."""

    teacher: Observer
    temperature: float
    factor: int
    update_batchnorm_twice: bool

    @property
    def test_epochs(self) -> Sequence[int]:
        """0-based epochs with a test."""
        return test_epochs(self.epochs, self.selection)

    @property
    def test_resize(self) -> int:
        """Side to which test images are resized before the centre crop."""
        return test_resize(self.dataset.image_size)

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states, the teacher's measured accuracy included."""
        return super().settings() | {
            "label_type": "soft",
            "loss": "KL(teacher || student), batchmean, no T²",
            "temperature": self.temperature,
            "teacher": self.teacher.describe(),
            "optimiser": "AdamW (0.9, 0.999)",
            "schedule": "half cosine",
            "augmentation": [
                f"patch shuffle {self.factor}",
                f"random resized crop (1/{self.factor}, 1)",
                *(["flip"] if self.dataset.flip else []),
                "cutmix 1.0",
            ],
            "test_resize": self.test_resize,
            "update_batchnorm_twice": self.update_batchnorm_twice,
        }

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return augmentation, optimiser, schedule, and the step that asks the teacher."""
        from ddbench_plugins.training import augment, optimisers, schedules, steps

        if self.update_batchnorm_twice:
            steps.update_batchnorm_twice(network)
        size, scale = self.dataset.image_size, (1 / self.factor, 1.0)
        return {
            "augment": augment.compose(
                augment.patch_shuffle.of(factor=self.factor),
                augment.random_resized_crop.of(size=size, scale=scale),
                *([augment.random_flip] if self.dataset.flip else []),
                augment.normalise(*self.constants),
            ),
            "optimiser": optimisers.adamw(self.lr, weight_decay=self.weight_decay),
            "schedule": schedules.half_cosine(self.epochs),
            "step": steps.soft_label_step(self.teacher.module(), temperature=self.temperature),
        }


class Rded(StudentEvaluator):
    """Soft labels online, KL without T², CutMix, AdamW, half cosine."""

    Options: ClassVar[type[RdedOptions]] = RdedOptions
    presets: ClassVar[str | Sequence[Mapping[str, Any] | str]] = "rded.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet with batch norm on a CPU; the papers' ResNet-18 (modified stem up to 64 pixels) at paper scale."""
        return "modified-resnet-18" if scale == "paper" else "convnet-3-bn"

    def steps(self, ctx: Context) -> list[CachedStep[Any] | StepCall]:
        """Return the teacher."""
        from ddbench_plugins.teachers.observers import teacher_of

        own = ctx.options.teacher_normalisation
        return [teacher_of(ctx, *_asked(ctx), teacher_normalisation=own)]

    def recipe(self, ctx: Context, distilled: DistilledSet) -> RdedRecipe:
        """Return the options with the teacher and the batch size of the rule."""
        from ddbench_plugins.teachers.observers import get_teacher

        options: RdedOptions = ctx.options
        teacher = get_teacher(ctx, *_asked(ctx), teacher_normalisation=options.teacher_normalisation)
        size = batch_size(options.batch_size, ctx.ipc or 1, ctx.dataset.num_classes)
        return RdedRecipe.of(ctx, options, batch_size=size, teacher=teacher)


def _asked(ctx: Context) -> tuple[str, str, str]:
    """Return which teacher is asked."""
    options: RdedOptions = ctx.options
    return options.teacher or ctx.network, options.normalisation, options.teacher_file


def batch_size(given: int | None, ipc: int, num_classes: int) -> int:
    """Images per step: 10, 50, 100 at IPC 1, 10, 50; twice that from 100 classes; at most the set (RDED argument.py).

    Between those IPCs, which the released code refuses, the value of the next smaller one is used.
    """
    if given is not None:
        return min(given, ipc * num_classes)
    size = 100 if ipc >= 50 else 50 if ipc >= 10 else 10
    return min(size * (2 if num_classes >= 100 else 1), ipc * num_classes)


def test_epochs(epochs: int, selection: str) -> list[int]:
    """0-based epochs with a test: the last, and under ``best_test`` every tenth of the last fifth (RDED main.py).

    Up to five epochs that rule leaves no test; the last epoch then has one.
    """
    if selection == "last":
        return [epochs - 1]
    return [e for e in range(epochs) if (e % 10 == 9 or e == epochs - 1) and e > 0.8 * epochs] or [epochs - 1]


def test_resize(size: int) -> int:
    """Side to which test images are resized before the centre crop: ⌊S/7⌋·8, e.g. 32, 72, 256 for 32, 64, 224."""
    return max(size, size // 7 * 8)
