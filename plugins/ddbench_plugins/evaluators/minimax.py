"""The Minimax protocol: hard labels and CutMix on ImageNet subsets (Gu et al. 2024, train.py; IDC, Kim et al. 2022).

Up to 64 pixels the released code is not usable; there the rule of IDC's small images applies, and the protocol says
that it is an extension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Evaluator, Options, Protocol, Score

if TYPE_CHECKING:
    from ddbench_plugins.training.idc_recipe import Recipe

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


class Minimax(Evaluator):
    """Hard labels, CutMix-weighted cross-entropy, SGD, ×0.2 at two thirds and five sixths."""

    Options = MinimaxOptions
    presets = "minimax.toml"
    default_repeats = 3

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet-3 with instance norm on a CPU, ResNetAP-10 at paper scale."""
        return "resnet-ap-10" if scale == "paper" else "convnet-3"

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        from ddbench_plugins.training.idc_recipe import is_small

        extension = EXTENSION if is_small(ctx.dataset) else ""
        if distilled.whole:
            from ddbench_plugins.teachers.observers import reference

            return Protocol(reference(ctx, ctx.network), extension)
        return Protocol(recipe(ctx).settings(ctx.network), extension)

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one student on hard labels and test it."""
        from ddbench_plugins.teachers.observers import get_teacher

        if distilled.whole:
            return get_teacher(ctx, ctx.network, repeat=repeat, floor=False).score()
        return recipe(ctx).train(ctx, distilled, repeat)


def recipe(ctx: Context) -> Recipe:
    """Return the options with the protocol's own values filled in for one data set and IPC."""
    from ddbench_plugins.training import idc_recipe

    options: MinimaxOptions = ctx.options
    data = ctx.dataset
    small = idc_recipe.is_small(data)
    many = data.num_classes > 100 and not small  # IDC says ≥ here
    kind = options.augment if options.augment != "auto" else ("idc" if small else "imagenet")
    by_rule = idc_recipe.SMALL_EPOCHS if small else idc_recipe.epochs(ctx.ipc or 1, data.num_classes)
    default_decay = 1e-4 if many else 5e-4
    return idc_recipe.Recipe(
        dataset=data,
        epochs=options.epochs or by_rule,
        batch_size=options.batch_size or (128 if many else 64),
        lr=options.lr or (0.1 if many else 0.01),
        weight_decay=default_decay if options.weight_decay is None else options.weight_decay,
        cutmix=(0.5 if small else 1.0) if options.cutmix is None else options.cutmix,
        imagenet=kind == "imagenet",
        cutout=False,  # IDC takes it out wherever CutMix is on
        factor=1,
        mean=data.mean,
        std=data.std,
        selection=options.selection,
        tests=4 if small else 100,
    )
