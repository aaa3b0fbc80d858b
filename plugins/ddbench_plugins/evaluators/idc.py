"""The IDC protocol: hard labels, CutMix, multi-formation decoding (Kim et al. 2022, test.py, train.py, argument.py)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.training.idc_recipe import SMALL_EPOCHS, IdcRecipe, epochs, is_small

#: The small images that IDC evaluates; others follow the same rule, and the protocol says so.
SMALL_DATASETS = ("mnist", "fashion-mnist", "svhn", "cifar10", "cifar100")
EXTENSION = "small images that IDC does not evaluate, by its rule for CIFAR-size data"
DENSENET_EPOCHS = 400
BATCH_SYN_MAX = 128  # largest number of images per class that the epoch rule sees under "bound"


class IdcOptions(Options):
    """Options of the protocol; what is none follows the protocol's rule for the data set and IPC."""

    factor: int | None = Field(
        None, ge=1, description="tiles per side of a stored image; what the distilled set says (else 1) when none"
    )
    bound: bool = Field(False, description="the epoch rule counts at most 128 images per class (decode type bound)")
    epochs: int | None = Field(None, ge=1, description="passes over the distilled set; by IPC and classes when none")
    batch_size: int | None = Field(None, ge=1, description="images per step; 64, or 128 from 100 ImageNet classes on")
    lr: float | None = Field(None, gt=0, description="SGD's learning rate; 0.01, or 0.1 from 100 ImageNet classes on")
    weight_decay: float | None = Field(None, ge=0, description="5e-4, or 1e-4 from 100 ImageNet classes on")
    cutmix: float | None = Field(
        None, ge=0, le=1, description="share of mixed batches; 1, or 0.5 up to 64 pixels, when none"
    )
    cutout: bool | None = Field(
        None, description="cutout after the other augmentations; by the code's rule (only SVHN at IPC 1) when none"
    )
    normalisation: Literal["dataset", "cifar10"] = Field(
        "dataset", description="constants of the student's inputs; the released code uses CIFAR-10's on CIFAR-100"
    )
    selection: Literal["last", "best_test"] = Field(
        "last", description="headline accuracy: after the last epoch, or the best of four tests"
    )


class Idc(StudentEvaluator):
    """Hard labels, CutMix-weighted cross-entropy, SGD, ×0.2 at two thirds and five sixths, four tests."""

    Options = IdcOptions
    presets = "idc.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet-3 up to 64 pixels, ResNetAP-10 above; instance norm in both."""
        return "convnet-3" if is_small(dataset) else "resnet-ap-10"

    def extension(self, ctx: Context) -> str:
        """Say which small images IDC does not evaluate."""
        return EXTENSION if is_small(ctx.dataset) and ctx.dataset.name not in SMALL_DATASETS else ""

    def reference_normalisation(self, ctx: Context) -> str:
        """Return the data set's own constants, whatever the students have."""
        return "dataset"

    def decodes(self, ctx: Context) -> bool:
        """By the factor of the set."""
        return True

    def recipe(self, ctx: Context, distilled: DistilledSet) -> IdcRecipe:
        """Return the options with the protocol's own values filled in for one data set and IPC."""
        options: IdcOptions = ctx.options
        data = ctx.dataset
        small = is_small(data)
        factor = options.factor or distilled.factor
        # The two exceptions of test.py.
        bare = data.name == "svhn" and ctx.ipc == 1 and factor == 1
        return IdcRecipe.by_rule(
            ctx,
            options,
            many=data.num_classes >= 100 and not small,  # MinimaxDiffusion says >
            epochs=_epochs(ctx, factor, small),
            cutmix=0.0 if bare or (data.name == "mnist" and factor > 1) else 0.5 if small else 1.0,
            imagenet=not small,
            cutout=bare if options.cutout is None else options.cutout,
            factor=factor,
            held=distilled.factor,
            tests=4,
        )


def _epochs(ctx: Context, factor: int, small: bool) -> int:
    ipc = ctx.ipc or 1
    if small:
        return DENSENET_EPOCHS if ctx.network.startswith("densenet") and factor > 1 and ipc >= 50 else SMALL_EPOCHS
    images = ipc * factor**2
    return epochs(min(images, BATCH_SYN_MAX) if ctx.options.bound else images, ctx.dataset.num_classes)
