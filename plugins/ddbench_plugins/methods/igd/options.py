"""Every option of IGD. Defaults are those of the cpu scale; ``presets.toml`` holds the paper's."""

from __future__ import annotations

from pydantic import Field, model_validator

from ddbench_plugins.diffusion.dit.options import DiTOptions


class IGDOptions(DiTOptions):
    """Options of the method ``igd``. With ``influence=0 deviation=0`` it is ``dit``."""

    influence: float = Field(
        5.0, ge=0, description="weight of the step that brings an image's gradient nearer to its class's (k)"
    )
    deviation: float = Field(
        120.0,
        ge=0,
        description="weight of the step away from the most similar earlier image of the class (γ), for latents of 4,096"
        " numbers; of fewer, less in proportion",
    )
    window_low: float = Field(
        0.6, ge=0, le=1, description="guided are the steps that at least this share of the steps are left after"
    )
    window_high: float = Field(
        0.9, ge=0, le=1, description="and at most this share: with 0.6 those of index 30 to 45 of 50"
    )
    memory: int = Field(64, ge=1, description="earlier images of the class that are kept apart from, the last ones")
    surrogate: str = Field(
        "convnet-3",
        description="classifier whose gradients are compared; without batch norm",
        json_schema_extra={"names": "network", "fresh": True},
    )
    surrogate_epochs: int = Field(10, ge=0, description="epochs of its training on the real images")
    surrogate_rate: float = Field(0.1, gt=0, description="its learning rate (SGD without momentum)")
    surrogate_batch: int = Field(64, ge=1, description="images per step of its training")
    similarity: float = Field(
        0.7,
        ge=-1,
        le=1,
        description="a checkpoint is used if its class gradients have a lower mean cosine with those of the last one"
        " that is used; the first is the untrained network",
    )
    checkpoints: int = Field(1, ge=0, description="most checkpoints that are used, the last ones; 0: all")
    gradient_images: int = Field(
        50, ge=1, description="real images of a class that its gradient is the mean of, evenly spaced"
    )

    @model_validator(mode="after")
    def _a_window(self) -> IGDOptions:
        if self.window_low > self.window_high:
            raise ValueError(f"window_low must not be above window_high ({self.window_high:g})")
        return self
