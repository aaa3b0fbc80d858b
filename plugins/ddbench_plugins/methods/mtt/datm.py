"""DATM: trajectory matching with a window of difficulty and learned labels (Guo et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ddbench_plugins.methods.mtt.distiller import MttOptions
from ddbench_plugins.methods.mtt.ftd import FlatExpertOptions, FlatMTT
from ddbench_plugins.training.recipe import refuse_unused

if TYPE_CHECKING:
    from torch import Tensor

    import ddbench
    from ddbench_plugins.methods.mtt.distiller import Parts
    from ddbench_plugins.methods.mtt.matching import ImagesWithRate, Matching


class DatmOptions(FlatExpertOptions):
    """Options of DATM; what it adds to MTT's has the defaults of most of the released settings."""

    train_epochs: int = Field(100, ge=0, description=MttOptions.model_fields["train_epochs"].description)
    alpha: float = Field(0.3, ge=0, description=FlatExpertOptions.model_fields["alpha"].description)
    iterations: int = Field(10000, ge=1, description=MttOptions.model_fields["iterations"].description)
    evaluate_every: int = Field(500, ge=1, description=MttOptions.model_fields["evaluate_every"].description)
    eval_networks: int = Field(1, ge=1, description=MttOptions.model_fields["eval_networks"].description)
    init: Literal["correct", "real", "noise"] = Field(  # type: ignore[assignment]
        "correct",
        description="what the images begin as: training images that an expert classifies correctly, any ones, or"
        " N(0, 1)",
    )
    min_start_epoch: int = Field(0, ge=0, description="segments begin at this epoch of an expert or later")
    first_max_start_epoch: int | None = Field(
        None, ge=1, description="max_start_epoch of the first iteration, from which it grows; the last one when none"
    )
    expansion: int = Field(0, ge=0, description="iterations until max_start_epoch is reached")
    labels: Literal["learned", "hard"] = Field(
        "learned", description="logits that begin as the experts' and are learned with the images, or the classes"
    )
    lr_label: float = Field(10.0, ge=0, description="learning rate of the logits (SGD, momentum 0.9)")
    label_experts: int | None = Field(
        None,
        ge=1,
        description="experts whose logits labels begin as the mean of: the first so many, all when none",
        json_schema_extra={"later": True},
    )
    threshold: float | None = Field(1.0, gt=0, description="matching loss above which an iteration changes nothing")

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        first = self.max_start_epoch if self.first_max_start_epoch is None else self.first_max_start_epoch
        if not self.min_start_epoch < first <= self.max_start_epoch:
            raise ValueError(
                f"segments cannot begin between min_start_epoch {self.min_start_epoch} and first {first}, then"
                f" max_start_epoch {self.max_start_epoch}"
            )
        if first < self.max_start_epoch and not self.expansion:
            raise ValueError(
                f"first_max_start_epoch {first} would not count, for without expansion max_start_epoch"
                f" {self.max_start_epoch} is reached at once; set expansion, or first_max_start_epoch to none"
            )
        return self


class DATM(FlatMTT):
    """Difficulty-aligned trajectory matching."""

    Options: ClassVar[type[MttOptions]] = DatmOptions
    presets: ClassVar[tuple[str, ...]] = ("datm.toml", "family.toml", "datm_cpu.toml")
    student_batch = 128

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse what FTD's experts and MTT do, and how labels are learned where they are not."""
        super().check(ctx)
        if ctx.options.labels == "hard":
            refuse_unused(ctx, ("lr_label", "label_experts"), "No labels are learned (labels=hard)")

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that there are soft labels, where they are learned."""
        return () if ctx.options.labels == "hard" else ("soft_labels",)

    def initial(self, ctx: ddbench.Context, parts: Parts) -> Tensor:
        """Return training images that experts recognise, or MTT's."""
        from ddbench_plugins.methods.mtt.labels import recognised

        if ctx.options.init != "correct":
            return super().initial(ctx, parts)
        real, ipc, experts, network = parts
        return real.at(recognised(real, ipc, experts, network, ctx.seed("mtt init")))

    def images(self, ctx: ddbench.Context, parts: Parts) -> ImagesWithRate:
        """Return MTT's images, with labels to learn if they are."""
        from ddbench_plugins.methods.mtt.labels import ImagesWithLabels, expert_logits

        options: DatmOptions = ctx.options
        if options.labels == "hard":
            return super().images(ctx, parts)
        initial = self.initial(ctx, parts)
        logits = expert_logits(initial, parts.experts, parts.network, options.label_experts)
        return self.begun(ctx, parts, ImagesWithLabels, initial, logits=logits, lr_label=options.lr_label)

    def settings(self, ctx: ddbench.Context, count: int) -> Matching:
        """Return MTT's settings with the window and the threshold."""
        from ddbench_plugins.methods.mtt.matching import Window

        options: DatmOptions = ctx.options
        settings, end = super().settings(ctx, count), options.max_start_epoch
        window = Window(options.min_start_epoch, options.first_max_start_epoch or end, end, options.expansion)
        return replace(settings, window=window, threshold=options.threshold or settings.threshold)
