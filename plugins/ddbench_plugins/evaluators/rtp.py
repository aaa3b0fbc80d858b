"""The protocol of RTP: a ConvNet trained on hard labels at one learning rate, the last accuracy counts.

Deng and Russakovsky 2022 (runners/sgld_runner_standard.py, configs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.training.recipe import StudentRecipe
from ddbench_plugins.training.whitening import normalisation_of

if TYPE_CHECKING:
    from torch import Tensor, nn


class RtpOptions(Options):
    """Options of the protocol."""

    epochs: int = Field(300, ge=1, description="passes over the decoded images")
    batch_size: int = Field(640, ge=1, description="images per step")
    lr: float = Field(0.01, gt=0, description="SGD's learning rate")


@dataclass(frozen=True, kw_only=True)
class RtpRecipe(StudentRecipe):
    """Hard labels, SGD with momentum 0.9, no decay of anything, no augmentation."""

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        return super().settings() | {
            "loss": "cross-entropy",
            "optimiser": "SGD, momentum 0.9",
            "schedule": "constant",
            "augmentation": [],
        }

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return augmentation and optimiser."""
        from ddbench_plugins.training import augment, optimisers

        chain = augment.normalise(*self.constants)
        return {"augment": chain, "optimiser": optimisers.sgd(self.lr, weight_decay=0.0)}


class Rtp(StudentEvaluator):
    """Cross-entropy on the decoded images."""

    Options = RtpOptions
    presets = "rtp.toml"
    whitens = True

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet-3, or of four blocks from 64 pixels on."""
        return "convnet-4" if dataset.image_size >= 64 else "convnet-3"

    def recipe(self, ctx: Context, distilled: DistilledSet) -> RtpRecipe:
        """Return the options."""
        return RtpRecipe.of(ctx, ctx.options, weight_decay=0.0, normalisation=normalisation_of(ctx, distilled))
