"""FTD: trajectory matching with experts on flat paths, and an average of the images (Du et al. 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ddbench_plugins.methods.mtt.distiller import MTT, MttOptions

if TYPE_CHECKING:
    import ddbench
    from ddbench_plugins.methods.mtt.distiller import Parts
    from ddbench_plugins.methods.mtt.experts import ExpertRecipe
    from ddbench_plugins.methods.mtt.matching import AveragedImages


class FlatExpertOptions(MttOptions):
    """Options of MTT with those of experts on flat paths; with both at 0 they are MTT's."""

    rho: float = Field(0.01, ge=0, description="size of the perturbation at which experts take their gradient")
    alpha: float = Field(1.0, ge=0, description="weight of the perpendicular part that is taken off this gradient")
    adaptive: bool = Field(True, description="perturb each weight in proportion to its size")


class FtdOptions(FlatExpertOptions):
    """Options of FTD; the defaults are those of the released scripts."""

    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="decay of the average of the images over iterations, which is the result; 0: the images themselves",
    )


class FlatMTT(MTT):
    """Trajectory matching with experts on flat paths."""

    Options: ClassVar[type[MttOptions]] = FlatExpertOptions

    def recipe(self, ctx: ddbench.Context) -> ExpertRecipe:
        """Return how experts are trained: MTT's way, at a perturbed point."""
        options: FlatExpertOptions = ctx.options
        return replace(super().recipe(ctx), rho=options.rho, alpha=options.alpha, adaptive=options.adaptive)


class FTD(FlatMTT):
    """Flat trajectory distillation."""

    Options: ClassVar[type[MttOptions]] = FtdOptions
    presets: ClassVar[tuple[str, ...]] = ("ftd.toml", "family.toml")

    def images(self, ctx: ddbench.Context, parts: Parts) -> AveragedImages:
        """Return MTT's images, averaged."""
        from ddbench_plugins.methods.mtt.matching import AveragedImages

        return self.begun(ctx, parts, AveragedImages, self.initial(ctx, parts), decay=ctx.options.ema)
