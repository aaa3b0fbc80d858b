"""DWA: SRe2L from real images, by a teacher whose weights were adjusted to them (Du et al. 2024)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import ddbench
from ddbench_plugins.methods.sre2l.distiller import Sre2lOptions
from ddbench_plugins.methods.sre2l.start import INIT, FromImages, Init


class DwaOptions(Sre2lOptions):
    """Options of DWA; init=noise, adjustments=0, variance_weight=1 is SRe2L."""

    init: Init = Field("random", description=INIT)
    together: Literal["classes", "set", "class"] = Field(
        "classes", description=Sre2lOptions.model_fields["together"].description
    )
    variance_weight: float = Field(
        11.0, ge=0, description="weight of the variances beside the means in the batch-norm statistics (r_var)"
    )
    adjustments: int = Field(
        12, ge=0, description="steps that adjust the teacher's weights to the images of a chunk before it begins (K)"
    )
    radius: float = Field(0.015, ge=0, description="length of all these steps together (ρ), along normalised gradients")
    add_adjustments: bool = Field(
        False, description="the chunks of one image per class share a teacher and add up their adjustments, as released"
    )
    add_gradients: bool = Field(
        False, description="the images' gradients in the adjustments count in the first step of Adam, as released"
    )


class DWA(FromImages):
    """Directed weight adjustment."""

    Options = DwaOptions
    presets = ("presets.toml", "dwa.toml")

    def unused(self, options: DwaOptions) -> dict[str, tuple[str, ...]]:
        """Return reason → options that change nothing because of others."""
        steps = ("radius", "add_adjustments", "add_gradients")
        return super().unused(options) | ({} if options.adjustments else {"Nothing is adjusted (adjustments=0)": steps})

    def work(self, ctx: ddbench.Context) -> float:
        """Images × passes of the teacher."""
        options: DwaOptions = ctx.options
        return super().work(ctx) * (1 + options.adjustments / options.iterations)
