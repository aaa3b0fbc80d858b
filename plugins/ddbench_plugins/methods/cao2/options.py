"""Every option of CaO2. Defaults are those of the cpu scale; ``presets.toml`` holds the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddbench_plugins.diffusion.dit.options import DiTOptions


class CaO2Options(DiTOptions):
    """Options of the method ``cao2``."""

    guidance_scale: float = Field(2.7, ge=1, description="classifier-free guidance; 1 is none")
    candidates: int = Field(4, ge=1, description="samples from which each image is chosen (q)")
    selector: str = Field(
        "convnet-3",
        description="network, trained on real images, that chooses among the samples",
        json_schema_extra={"names": "network"},
    )
    order: Literal["surest", "least sure"] = Field(
        "surest", description="which of the samples that are recognised as their class come first"
    )
    refine_steps: int = Field(100, ge=0, description="steps of Adam on each chosen latent; 0 leaves it")
    refine_rate: float = Field(6e-4, gt=0, description="learning rate of these steps")
    refine_label: Literal["none", "class"] = Field("none", description="what the transformer is told in these steps")
    refine_times: float = Field(
        0.22,
        gt=0,
        le=1,
        description="share of the sampling steps, the last ones, whose noise is added (11 of 50: 0.22)",
    )
    largest: float = Field(10.0, ge=0, description="weight of the largest error of the noise, beside the mean square")
    raw_times: bool = Field(
        False,
        description="tell the transformer the index of a sampling step in place of its time, as the released code",
    )
