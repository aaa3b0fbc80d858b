"""Every option of MGD3. Defaults are those of the cpu scale; ``presets.toml`` holds the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from ddbench_plugins.diffusion.dit.options import DiTOptions


class MGD3Options(DiTOptions):
    """Options of the method ``mgd3``."""

    backbone: str = Field(
        "small",
        description="diffusion model: 'small' (trained on the data set), a hub id, or a folder of a DiTPipeline, with"
        " conditioning=text, of a StableDiffusionPipeline",
        json_schema_extra={"file": ["small"]},
    )
    conditioning: Literal["class", "text"] | None = Field(
        None,
        description="class (also when none): a diffusion transformer under the class's label; text: Stable Diffusion,"
        " or the small model of its kind, under the class's name, without cfg_channels and small_dit_steps",
        json_schema_extra={"later": True},
    )

    @field_validator("conditioning")
    @classmethod
    def _class_is_the_default(cls, value: str | None) -> str | None:
        return None if value == "class" else value  # one result, one key

    mode_guidance: float = Field(0.1, ge=0, description="weight of the way to the mode (λ); 0 leaves plain samples")
    stop: float = Field(
        0.5,
        ge=0,
        le=1,
        description="guided are the steps that more than this share of the steps are left after: with 0.5 those of"
        " index 26 to 49 of 50",
    )
    modes: Literal["centroid", "nearest"] = Field(
        "centroid", description="what a cluster leads to: its centre, or the latent of a training image nearest to it"
    )

    @property
    def trains_unet(self) -> bool:
        """Whether a U-Net is trained: with the autoencoder of the transformer's latents, or to sample from."""
        return self.conditioning == "text" or super().trains_unet
