"""Every option of D4M. Defaults are those of the cpu scale; ``presets.toml`` holds those of the paper's models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddbench_plugins.diffusion.options import ImageToImageOptions


class D4MOptions(ImageToImageOptions):
    """Options of the method ``d4m``."""

    km_expand: int = Field(
        10, ge=1, description="latents per step of mini-batch k-means, as a multiple of the number of clusters (E)"
    )
    leftover: Literal["fit", "last"] = Field(
        "fit",
        description="latents after a class's last full step: fit them as a smaller one, or leave them out but for the"
        " class of the very last image, as the released code does",
    )
    repeats: int = Field(1, ge=1, description="images from each prototype, each with noise of its own; divides IPC")
    template: str = Field(
        "{name}", pattern=r"\{name\}", description="prompt of a class; {name} stands for the class's name"
    )
    guidance_scale: float = Field(8.0, ge=1, description="classifier-free guidance (g)")
    safety_checker: bool = Field(
        False, description="let the model's own safety checker replace flagged images by black ones"
    )
