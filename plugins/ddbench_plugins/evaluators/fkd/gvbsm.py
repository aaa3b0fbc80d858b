"""G-VBSM's protocol: the mean logits of several teachers, squared error beside cross-entropy.

Shao et al., *Generalized Large-Scale Data Condensation via Various Backbone and Statistical Matching*, CVPR 2024
(Branch_*/relabel/generate_soft_label_with_db.py, Branch_*/train/train_FKD.py, train.sh).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from ddbench import Context, digest
from ddbench_plugins.evaluators.fkd.evaluator import Fkd, FkdOptions, FkdRecipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from ddbench_plugins.teachers.observers import Observer
    from ddbench_plugins.training.steps import Batch, Batches

EXTENSION = "other teachers than the released code's, which takes four or five networks of its own"


class GVbsmOptions(FkdOptions):
    """Options of the protocol; the defaults are those of the released code for CIFAR-10."""

    labels: Literal["stored", "online"] = Field(
        "stored", description="label once and replay to every student, or ask the teachers in every step"
    )
    teacher: str = Field(
        "",
        description="networks of the teachers, separated by commas; the student's when empty",
        json_schema_extra={"names": "network", "commas": True},
    )
    teacher_file: str = Field(
        "",
        description="safetensors file of the first teacher instead of training it",
        json_schema_extra={"file": True},
    )
    normalisation: Literal["dataset", "cifar10", "cifar100", "imagenet", "tiny-imagenet"] = Field(  # type: ignore[assignment]  # one more
        "dataset", description=FkdOptions.model_fields["normalisation"].description
    )
    ce_weight: float = Field(0.15, ge=0, description="of the cross-entropy with each image's own class, mixed or not")
    equal_norms: bool | None = Field(
        None,
        description="scale the logits of every teacher in a batch to their mean norm before they are averaged; off"
        " where not set",
        json_schema_extra={"later": True},
    )
    epochs: int = Field(1000, ge=1, description="passes over the distilled set")
    batch_size: int = Field(100, ge=1, description="images per step, at most the set")
    weight_decay: float = Field(0.0, ge=0, description="of the parameters that decay")
    decay: Literal["matrices", "all"] = Field("matrices", description="which parameters decay")
    schedule: Literal["cosine", "half_cosine", "linear", "warmup_cosine"] = Field(
        "cosine", description="cosine to 0; to one half; linear to 0; 5 epochs of linear warm-up, then cosine to 0"
    )
    mix: Literal["cutmix", "mixup", "none"] = Field("cutmix", description="how images of a batch are mixed")
    crop: Literal["resized", "padded", "none"] = Field(
        "resized", description="random resized crop, or random crop of the padded image"
    )
    test_every: int = Field(10, ge=1, description="epochs between tests under best_test")

    @field_validator("teacher")
    @classmethod
    def _all_named(cls, teacher: str) -> str:
        names = [name.strip() for name in teacher.split(",")]
        if teacher and not all(names):
            raise ValueError("there is no network between two commas: say NAME,NAME")
        if len(set(names)) < len(names):
            raise ValueError("a network stands twice in it, and would be one teacher with the weights of one")
        return teacher


@dataclass(frozen=True)
class Ensemble:
    """Several teachers as one: their mean logits, on request of equal norms."""

    members: Sequence[Observer]
    equal_norms: bool = False

    @property
    def digest(self) -> str:
        """Digest of all weights."""
        return digest([member.digest for member in self.members])

    def describe(self) -> dict[str, Any]:
        """Return what a protocol says of the teachers."""
        told = [member.describe() for member in self.members]
        scaled = {"equal_norms": True} if self.equal_norms else {}
        return {"network": ", ".join(one["network"] for one in told), "members": told, **scaled}

    def module(self) -> nn.Module:
        """Return a network that gives the mean logits, float32 [B, K]."""
        import torch
        from torch import nn

        equal_norms = self.equal_norms

        class Mean(nn.Module):
            def __init__(self, networks: Sequence[nn.Module]) -> None:
                super().__init__()
                self.networks = nn.ModuleList(networks)

            def forward(self, x: Tensor) -> Tensor:
                logits = torch.stack([network(x).float() for network in self.networks])
                if equal_norms:
                    norms = logits.norm(dim=(1, 2), keepdim=True)
                    logits = logits / norms.clamp(min=1e-12) * norms.mean(0)
                return logits.mean(0)

        return Mean([member.module() for member in self.members])


@dataclass(frozen=True, kw_only=True)
class GVbsmRecipe(FkdRecipe):
    """Squared error of the logits plus weighted cross-entropy with the class of each image itself."""

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        loss = "squared error of logits, plus cross-entropy with the image's own class"
        told = super().settings() | {"loss": loss}
        return {name: value for name, value in told.items() if name != "equal_norms" or value is not None}

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Of a batch: (logits of the student, those of the teachers and the class behind them [B, K + 1]) → mean."""
        from ddbench_plugins.training.losses import mse_and_ground_truth

        weight = self.options.ce_weight  # type: ignore[attr-defined]
        return lambda out, told: mse_and_ground_truth(out, told[:, :-1], told[:, -1].long(), ce_weight=weight)

    def _batches(self, ctx: Context, images: Tensor, repeat: int) -> Batches:
        import torch

        from ddbench_plugins.training.steps import Batches

        labelled = super()._batches(ctx, images, repeat)
        classes = torch.as_tensor(self.classes).to(images.device)

        def make(*numbers: Any) -> Batch:
            batch = labelled.make(*numbers)
            return batch._replace(labels=torch.cat([batch.labels, classes[batch.indices][:, None].float()], 1))

        return Batches(labelled.draw, make)


class GVbsm(Fkd):
    """Soft labels of several teachers, squared error and cross-entropy, AdamW or SGD, cosine."""

    Options = GVbsmOptions  # type: ignore[assignment]  # not every kind of label
    Recipe = GVbsmRecipe
    presets = "gvbsm.toml"

    def extension(self, ctx: Context) -> str:
        """Say that the teachers are others."""
        return EXTENSION

    def teachers(self, ctx: Context) -> list[tuple[str, str, str]]:
        """Return which teachers are asked."""
        options: GVbsmOptions = ctx.options
        names = [name.strip() for name in (options.teacher or ctx.network).split(",")]
        files = [options.teacher_file, *[""] * (len(names) - 1)]
        return [(name, options.normalisation, file) for name, file in zip(names, files, strict=True)]

    def _teacher(self, ctx: Context) -> Any:
        from ddbench_plugins.teachers.observers import get_teacher

        asked = self.teachers(ctx)
        # Those of several may be as weak as the papers', which train each for five epochs on CIFAR-10.
        members = [get_teacher(ctx, *each, floor=len(asked) == 1) for each in asked]
        return Ensemble(members, bool(ctx.options.equal_norms))
