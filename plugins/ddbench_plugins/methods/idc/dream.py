"""DREAM: IDC on real images that stand for their class, in place of random ones (Liu et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

import ddbench
from ddbench_plugins.methods.idc.distiller import IDC, IdcOneOptions, IdcOptions, factor_of
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.recipe import refuse_unused

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.idc.images import FormedImages
    from ddbench_plugins.methods.idc.matching import ClassMatching
    from ddbench_plugins.methods.idc.representatives import Representatives


class DreamOptions(IdcOptions):
    """Options of DREAM; the defaults are those of the released code. With ``batches=random init=mix`` and IDC's
    ``batch_real`` they are IDC's."""

    batch_real: int = Field(128, ge=1, description=IdcOneOptions.model_fields["batch_real"].description)
    batches: Literal["representative", "random"] = Field(
        "representative",
        description="real images that are matched: those nearest to the k-means centres of the class's features in the"
        " network, as many as batch_real; or the next of a shuffled pass",
    )
    init: Literal["real", "noise", "mix", "representative"] = Field(  # type: ignore[assignment]
        "representative",
        description="what the images begin as: training images, noise, or factor² training images in each, random (mix)"
        " or nearest to as many k-means centres (representative)",
    )
    cluster_every: int = Field(10, ge=1, description="matching steps between two clusterings")
    candidates: int | None = Field(
        None, ge=1, description="random images of a class that are clustered, drawn anew each time; all when none"
    )
    raw_pixels: bool | None = Field(
        None,
        description="cluster the features of images that are not normalised, as the released code does",
        json_schema_extra={"later": True},
    )

    @field_validator("raw_pixels")
    @classmethod
    def _normalised_is_the_default(cls, value: bool | None) -> bool | None:
        return value or None  # one result, one key


class DREAM(IDC):
    """Efficient condensation by representative matching."""

    Options: ClassVar[type[IdcOneOptions]] = DreamOptions
    presets: ClassVar[tuple[str, ...]] = ("presets.toml", "dream.toml")

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse what IDC does, fewer candidates than representatives that are to be found, and unused options."""
        super().check(ctx)
        options: DreamOptions = ctx.options
        if options.init == "representative":
            refuse_unused(ctx, ("init_first",), "Images begin as representatives (init=representative)")
        if options.batches == "random":
            refuse_unused(ctx, ("cluster_every",), "No batch is found by clustering (batches=random)")
            if options.init != "representative":
                why = f"Nothing is clustered (batches=random, init={options.init})"
                refuse_unused(ctx, ("candidates", "raw_pixels"), why)
        begun = ipc_of(ctx) * factor_of(ctx) ** 2 if options.init == "representative" else 0
        needed = max(begun, options.batch_real if options.batches == "representative" else 0)
        most = max(ctx.dataset.train.counts(ctx.dataset.num_classes))
        if options.candidates and options.candidates < min(needed, most):
            raise ddbench.UsageError(
                f"Among {options.candidates} candidates there are no {needed} representatives of a class.",
                hint=f"Choose method.candidates from {needed} on.",
            )

    def initial(self, ctx: ddbench.Context, real: RealImages) -> Tensor:
        """Return what IDC's images begin as, or representatives in the network of the first iteration."""
        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.methods.idc.images import initial_images

        options: DreamOptions = ctx.options
        if options.init != "representative":
            return super().initial(ctx, real)
        find = self.finder(ctx, real, "dream init")
        network = fresh_networks(ctx, options.network)(0).eval()
        return initial_images(
            *(real, ipc_of(ctx), "mix", factor_of(ctx), ctx.seed("idc init"), False),
            choose=lambda label, count: find(network, label, count, 0),
        )

    @staticmethod
    def finder(ctx: ddbench.Context, real: RealImages, role: str) -> Representatives:
        """Return what finds the representatives of a class, by random numbers of this role."""
        from ddbench_plugins.methods.idc.representatives import Representatives

        options: DreamOptions = ctx.options
        return Representatives(
            real, options.candidates, ctx.machine.precision, ctx.seed(role), raw_pixels=bool(options.raw_pixels)
        )

    def matching(self, ctx: ddbench.Context, images: FormedImages, real: RealImages) -> ClassMatching:
        """Return IDC's matching, of representatives."""
        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.methods.idc.representatives import RepresentativeMatching

        options: DreamOptions = ctx.options
        if options.batches == "random":
            return super().matching(ctx, images, real)
        find = self.finder(ctx, real, "dream batches")
        networks = fresh_networks(ctx, options.network, one_by_one=True)
        return RepresentativeMatching(images, real, networks, self.settings(ctx), find, options.cluster_every)
