"""G-VBSM: SRe2L with several teachers in turn and the statistics of more layers (Shao et al., CVPR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

import ddbench
from ddbench_plugins.methods.sre2l.distiller import PATCHES, STATISTICS, Sre2lOptions
from ddbench_plugins.methods.sre2l.layers import Views
from ddbench_plugins.methods.sre2l.start import INIT, FromImages, Init

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class GVbsmOptions(Sre2lOptions):
    """Options of G-VBSM; ring=[], convolutions=false, memory=0, density_weight=0, padding=0 is SRe2L."""

    network: str = Field(
        "convnet-3-bn", description="network of the first teacher", json_schema_extra={"names": "network"}
    )
    ring: tuple[str, ...] = Field(
        (),
        description="networks of further teachers, which take turns with the first",
        json_schema_extra={"names": "network"},
    )
    normalisation: Literal["dataset", "cifar10", "cifar100", "imagenet", "tiny-imagenet"] = Field(  # type: ignore[assignment]
        "dataset", description="constants of the teachers' inputs; the released code uses CIFAR-100's on CIFAR-10"
    )
    init: Init = Field("noise", description=INIT)
    iterations: int = Field(4000, ge=1, description="steps of Adam per image, each by one teacher")
    lr: float = Field(0.05, gt=0, description=Sre2lOptions.model_fields["lr"].description)
    bn_weight: float = Field(0.01, ge=0, description="weight of the statistics of all layers; 0 switches them off")
    first_bn: float = Field(10.0, ge=0, description="extra weight of the first layer")
    jitter: int = Field(32, ge=0, description=Sre2lOptions.model_fields["jitter"].description)
    padding: int = Field(
        4, ge=0, description="random crop of the batch with so many pixels of mean colour around it, and flip; 0: none"
    )
    together: Literal["classes", "set", "class"] = Field(
        "class", description=Sre2lOptions.model_fields["together"].description
    )
    convolutions: bool = Field(
        True,
        description="compare what convolutions see, too: means and variances of channels and of patches with those of"
        " training images",
    )
    patch: int = Field(
        4,
        ge=1,
        description="side of the patches; sides of what a convolution sees are enlarged to multiples of it",
    )
    statistics_images: int = Field(
        0, ge=0, description="training images of which these are taken, of each class alike; 0: all"
    )
    statistics_views: Views = Field(
        "padded",
        description="how teachers see them: random crops of images in a black border, or random resized crops,"
        " mirrored; or as they are (none)",
    )
    statistics_batch: int = Field(
        64, ge=1, description="training images at a time, of which these are taken and then averaged"
    )
    drop: float = Field(0.4, ge=0, le=1, description="chance of a convolution not to be compared in a step (β_dr)")
    memory: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="share of the past in the compared statistics, a moving average over the steps of a teacher (β); 0:"
        " the batch alone",
    )
    memory_from_zero: bool = Field(
        False,
        description="the averages begin at zero and go on from chunk to chunk, as released, instead of beginning anew"
        " with each chunk's first batch",
    )
    density_weight: float = Field(
        1.0, ge=0, description="weight of data densification, which keeps the images of a class unlike each other"
    )
    density_temperature: float = Field(4.0, gt=0, description="temperature of its target")

    @model_validator(mode="after")
    def _teachers_differ(self) -> Self:
        others = [*self.ring, *([] if self.teacher_file else [self.network])]
        if len(set(others)) < len(others):
            raise ValueError(
                f"network={self.network} and ring={list(self.ring)} name a network twice, which would be one teacher"
            )
        return self

    @property
    def flips(self) -> bool:
        """Whether images are mirrored, where the data set allows it."""
        return self.crop or self.padding > 0


class GVBSM(FromImages):
    """Various backbones and statistics."""

    Options: ClassVar[type[Sre2lOptions]] = GVbsmOptions
    presets: ClassVar[str | Sequence[str]] = ("presets.toml", "gvbsm.toml")

    def unused(self, options: Any) -> dict[str, tuple[str, ...]]:
        """Return reason → options that change nothing because of others."""
        unused = super().unused(options)
        if not options.memory:
            unused["Nothing is averaged over steps (memory=0)"] = ("memory_from_zero",)
        if not options.density_weight:
            unused["Nothing is densified (density_weight=0)"] = ("density_temperature",)
        if not options.convolutions:
            unused["Convolutions are not compared (convolutions=false)"] = PATCHES
        if not self.compares_images(options):
            unused["Nothing is compared with training images"] = STATISTICS
        return unused

    def asked(self, ctx: ddbench.Context) -> list[tuple[str, str, str]]:
        """Return the teachers, which take turns."""
        options: GVbsmOptions = ctx.options
        return [*super().asked(ctx), *((name, options.normalisation, "") for name in options.ring)]

    def identity(self, ctx: ddbench.Context) -> dict[str, Any]:
        """Return which teachers are asked."""
        from ddbench_plugins.teachers.observers import teacher_identity

        ring = [teacher_identity(ctx, name, "") for name in ctx.options.ring]
        return {**super().identity(ctx), **({"ring": ring} if ring else {})}

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the teachers, what the images begin as, and the statistics of real images."""
        return [*super().needs(ctx), *self._statistics(ctx)]

    def real(self, ctx: ddbench.Context) -> list[dict[str, Tensor]]:
        """Return the statistics of training images in the layers of each teacher."""
        from ddbench_plugins.methods.sre2l.layers import read

        return [read(call.done(), ctx.machine.device) for call in self._statistics(ctx)]

    def _statistics(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        from ddbench_plugins.methods.sre2l.layers import Looks, statistics_of

        options: GVbsmOptions = ctx.options
        if not (options.bn_weight and self.compares_images(options)):
            return []
        taken = (options.statistics_images, options.statistics_views, options.statistics_batch)
        return [statistics_of(ctx, *asked, Looks(*taken, options.patch)) for asked in self.asked(ctx)]

    def compares_images(self, options: Any) -> bool:
        """Return whether the statistics of training images are asked for."""
        return bool(options.convolutions)
