"""DCC and DSAC: the gradient of all classes together is matched, where what they have in common cancels.

Lee et al. 2022: main.py, utils.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ddbench_plugins.methods.dc.distiller import DC, DcOptions, DsaOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    import ddbench
    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.methods.dc.matching import GradientMatching


class ContrastiveOptions(DcOptions):
    """What DCC and DSAC add to DC and DSA; with ``signal=class`` they are those."""

    signal: Literal["contrast", "class"] = Field(
        "contrast", description="match one gradient of all classes after the warm-up, or that of each class throughout"
    )
    warmup_iterations: int = Field(
        250, ge=0, description="networks after which every step is contrastive (outer_loop_warmup)"
    )
    warmup_outer: int = Field(
        10, ge=0, description="steps of each network before that after which a step is contrastive"
    )

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_outer > self.outer:
            raise ValueError(f"a warm-up of {self.warmup_outer} steps per network, but outer is {self.outer}")
        return self


class DccOptions(ContrastiveOptions):
    """Options of DCC; the defaults are those of the released code."""

    init: Literal["real", "noise"] = Field("real", description=DcOptions.model_fields["init"].description)


class DsacOptions(DsaOptions, ContrastiveOptions):
    """Options of DSAC: DCC with augmentation."""


class DCC(DC):
    """Gradient matching with contrastive signals."""

    Options: ClassVar[type[DcOptions]] = DccOptions
    presets: ClassVar[tuple[str, ...]] = ("presets.toml", "dcc.toml")

    def matching(
        self, ctx: ddbench.Context, images: SyntheticImages, real: RealImages, networks: Callable[[int], nn.Module]
    ) -> GradientMatching:
        """Return DC's matching, contrastive after the warm-up."""
        from ddbench_plugins.methods.dc.contrast import ContrastiveMatching

        options: ContrastiveOptions = ctx.options
        if options.signal == "class":
            return super().matching(ctx, images, real, networks)
        return ContrastiveMatching(
            *(images, real, networks, self.settings(ctx)),
            warmup_iterations=options.warmup_iterations,
            warmup_outer=options.warmup_outer,
        )


class DSAC(DCC):
    """Gradient matching with contrastive signals under Siamese augmentation."""

    Options: ClassVar[type[DcOptions]] = DsacOptions
