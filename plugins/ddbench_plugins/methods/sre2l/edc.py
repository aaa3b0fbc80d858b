"""EDC: G-VBSM from real images, which also matches the statistics of their classes (Shao et al., NeurIPS 2024)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ddbench_plugins.methods.sre2l.gvbsm import GVBSM, GVbsmOptions
from ddbench_plugins.methods.sre2l.start import INIT, Init


class EdcOptions(GVbsmOptions):
    """Options of EDC; init=noise, class_share=0, smallest_crop=0.08, with G-VBSM's views and terms, is G-VBSM."""

    init: Init = Field("random", description=INIT)
    iterations: int = Field(2000, ge=1, description=GVbsmOptions.model_fields["iterations"].description)
    jitter: int = Field(0, ge=0, description=GVbsmOptions.model_fields["jitter"].description)
    padding: int = Field(0, ge=0, description=GVbsmOptions.model_fields["padding"].description)
    crop: bool = Field(True, description=GVbsmOptions.model_fields["crop"].description)
    smallest_crop: float = Field(0.5, gt=0, le=1, description="smallest area of a crop, of the whole image")
    drop: float = Field(0.0, ge=0, le=1, description=GVbsmOptions.model_fields["drop"].description)
    density_weight: float = Field(0.0, ge=0, description=GVbsmOptions.model_fields["density_weight"].description)
    class_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="weight of the distance to the statistics of the classes in the batch, against that to those of the"
        " training set",
    )
    exchanged_patches: bool = Field(
        False, description="means and variances of the classes' patches take each other's place, as released"
    )


class EDC(GVBSM):
    """The design space elucidated: real images to begin with, soft category-aware matching."""

    Options = EdcOptions
    presets = ("presets.toml", "gvbsm.toml", "edc.toml")

    def unused(self, options: Any) -> dict[str, tuple[str, ...]]:
        """Return reason → options that change nothing because of others."""
        none = {} if options.class_share else {"Classes do not count (class_share=0)": ("exchanged_patches",)}
        return super().unused(options) | none

    def compares_images(self, options: Any) -> bool:
        """Return whether the statistics of training images are asked for."""
        return bool(options.convolutions or options.class_share)
