"""Every option of minimax diffusion. Defaults are those of the cpu scale; ``presets.toml`` holds the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddbench_plugins.diffusion.dit.options import DiTOptions


class MinimaxOptions(DiTOptions):
    """Options of the method ``minimax``."""

    finetune_steps: int = Field(2000, ge=1, description="steps of the fine-tuning")
    finetune_batch_size: int = Field(8, ge=1, description="images per step")
    finetune_learning_rate: float = Field(1e-3, gt=0, description="constant learning rate of AdamW")
    lambda_r: float = Field(0.002, ge=0, description="weight of representativeness; 0 leaves it out")
    lambda_d: float = Field(0.008, ge=0, description="weight of diversity; 0 leaves it out")
    memory: int = Field(64, ge=1, description="real latents, and predictions, remembered per class")
    ema_decay: float | None = Field(
        None, ge=0, le=1, description="decay of the averaged weights; None: so that 30 % at most are the base model's"
    )
    trainable: Literal["difffit", "all"] = Field(
        "difffit", description="what is trained: biases, class embeddings and added scales (DiffFit), or every weight"
    )
    together: int = Field(
        20, ge=1, description="classes fine-tuned in one model; further ones start from the base model again"
    )

    @property
    def decay(self) -> float:
        """The decay of the averaged weights."""
        return min(0.9999, 0.3 ** (1 / self.finetune_steps)) if self.ema_decay is None else self.ema_decay
