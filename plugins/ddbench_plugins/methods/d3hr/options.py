"""Every option of D3HR. Defaults are those of the cpu scale; ``presets.toml`` holds the paper's."""

from __future__ import annotations

from pydantic import Field, model_validator

from ddbench_plugins.diffusion.dit.options import DiTOptions


class D3HROptions(DiTOptions):
    """Options of the method ``d3hr``."""

    inversion: int = Field(
        30, ge=1, description="DDIM steps, of ``steps`` from image to noise, after which latents are compared"
    )
    inverted: int = Field(
        300, ge=0, description="training images per class whose latents are inverted, evenly spaced; 0: all"
    )
    groups: int = Field(2000, ge=1, description="groups of IPC latents per class, of which the best is denoised (m)")
    skewness: float = Field(0.1, ge=0, description="weight of the skewness in a group's score")
    shared_draws: bool = Field(False, description="draw the same normal numbers for every class, as the released code")
    misaligned: bool = Field(
        False, description="denoise from one step further than the inversion went, to time 1, as the released code"
    )

    @model_validator(mode="after")
    def _fits(self) -> D3HROptions:
        if self.inversion + self.misaligned >= self.steps:
            further = " by more than 1 with misaligned" if self.misaligned else ""
            raise ValueError(f"inversion must be below steps ({self.steps}){further}, not {self.inversion}")
        if self.inverted == 1:
            raise ValueError("inverted must be 0 or at least 2: a single image has no deviation")
        return self
