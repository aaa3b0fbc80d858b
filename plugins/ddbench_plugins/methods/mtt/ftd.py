"""FTD: trajectory matching with experts on flat paths, and an average of the images (Du et al. 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ddbench_plugins.methods.mtt.distiller import MTT, MttOptions
from ddbench_plugins.training.recipe import refuse_unused

if TYPE_CHECKING:
    import ddbench
    from ddbench_plugins.methods.mtt.distiller import Parts
    from ddbench_plugins.methods.mtt.experts import ExpertRecipe
    from ddbench_plugins.methods.mtt.matching import AveragedImages


class FlatExpertOptions(MttOptions):
    """Options of MTT with those of experts on flat paths; with ``rho`` at 0 they are MTT's."""

    rho: float = Field(
        0.01, ge=0, description="size of the perturbation at which experts take their gradient; 0: experts are MTT's"
    )
    alpha: float = Field(1.0, ge=0, description="weight of the perpendicular part that is taken off this gradient")
    adaptive: bool = Field(True, description="perturb each weight in proportion to its size")


class FtdOptions(FlatExpertOptions):
    """Options of FTD; the defaults are those of the released scripts, and of ``alpha`` most of the paper's table."""

    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="decay of the average of the images over iterations, which is the result; 0: the images themselves",
    )


class FlatMTT(MTT):
    """Trajectory matching with experts on flat paths."""

    Options: ClassVar[type[MttOptions]] = FlatExpertOptions

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse what MTT does, and how a perturbation is made where there is none."""
        super().check(ctx)
        options: FlatExpertOptions = ctx.options
        if not options.rho:
            unused = ("adaptive", *(["alpha"] if options.alpha else []))
            refuse_unused(ctx, unused, "Without a perturbation (rho=0) both gradients are the same")

    def identity(self, ctx: ddbench.Context) -> dict[str, str]:
        """Return that experts are MTT's where their options name an alpha that changes nothing."""
        return {"experts": "of MTT"} if ctx.options.alpha and not ctx.options.rho else {}

    def recipe(self, ctx: ddbench.Context) -> ExpertRecipe:
        """Return how experts are trained: MTT's way, at a perturbed point if there is one."""
        options: FlatExpertOptions = ctx.options
        if not options.rho:
            return super().recipe(ctx)
        return replace(super().recipe(ctx), rho=options.rho, alpha=options.alpha, adaptive=options.adaptive)


class FTD(FlatMTT):
    """Flat trajectory distillation."""

    Options: ClassVar[type[MttOptions]] = FtdOptions
    presets: ClassVar[tuple[str, ...]] = ("ftd.toml", "family.toml")

    def images(self, ctx: ddbench.Context, parts: Parts) -> AveragedImages:
        """Return MTT's images, averaged."""
        from ddbench_plugins.methods.mtt.matching import AveragedImages

        return self.begun(ctx, parts, AveragedImages, self.initial(ctx, parts), decay=ctx.options.ema)
