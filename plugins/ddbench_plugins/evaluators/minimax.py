"""The Minimax protocol: hard labels and CutMix on ImageNet subsets (Gu et al. 2024, train.py; IDC, Kim et al. 2022).

Up to 64 pixels the released code is not usable; there the rule of IDC's small images applies, and the protocol says
that it is an extension.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.training.idc_recipe import SMALL_EPOCHS, IdcRecipe, epochs, is_small

EXTENSION = "small images: IDC's rule for CIFAR-size data instead of MinimaxDiffusion's for 224 pixels"


class MinimaxOptions(Options):
    """Options of the protocol; what is none follows the protocol's rule for the data set and IPC."""

    epochs: int | None = Field(None, ge=1, description="passes over the distilled set; by IPC and classes when none")
    batch_size: int | None = Field(None, ge=1, description="images per step; 64, or 128 above 100 classes, when none")
    lr: float | None = Field(None, gt=0, description="SGD's learning rate; 0.01, or 0.1 above 100 classes, when none")
    weight_decay: float | None = Field(None, ge=0, description="5e-4, or 1e-4 above 100 classes, when none")
    cutmix: float | None = Field(
        None, ge=0, le=1, description="share of mixed batches; 1, or 0.5 up to 64 pixels, when none"
    )
    augment: Literal["auto", "imagenet", "idc"] = Field(
        "auto",
        description="ImageNet chain (crop, flip, jitter, lighting) or IDC's; auto: by image size",
    )
    selection: Literal["last", "best_test"] = Field(
        "last", description="headline accuracy: after the last epoch, or the best of the protocol's tests"
    )


class Minimax(StudentEvaluator):
    """Hard labels, CutMix-weighted cross-entropy, SGD, ×0.2 at two thirds and five sixths."""

    Options = MinimaxOptions
    presets = "minimax.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet-3 with instance norm on a CPU, ResNetAP-10 at paper scale."""
        return "resnet-ap-10" if scale == "paper" else "convnet-3"

    def extension(self, ctx: Context) -> str:
        """Say that small images follow another rule."""
        return EXTENSION if is_small(ctx.dataset) else ""

    def recipe(self, ctx: Context, distilled: DistilledSet) -> IdcRecipe:
        """Return the options with the protocol's own values filled in for one data set and IPC."""
        options: MinimaxOptions = ctx.options
        data = ctx.dataset
        small = is_small(data)
        return IdcRecipe.by_rule(
            ctx,
            options,
            many=data.num_classes > 100 and not small,  # IDC says ≥ here
            epochs=SMALL_EPOCHS if small else epochs(ctx.ipc or 1, data.num_classes),
            cutmix=0.5 if small else 1.0,  # IDC takes cutout out wherever CutMix is on
            imagenet=not small if options.augment == "auto" else options.augment == "imagenet",
            tests=4 if small else 100,
        )
