"""NCFM's protocol: IDC's decoding and augmentations with AdamW (Wang et al., CVPR 2025, condenser/, config/)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options
from ddbench_plugins.evaluators.idc import Idc
from ddbench_plugins.training.idc_recipe import IdcRecipe, is_small

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

#: The data sets of NCFM's configurations; its ImageNet subsets have 128 pixels.
PUBLISHED = ("cifar10", "cifar100", "tiny-imagenet", "imagenette", "imagewoof")


class NcfmOptions(Options):
    """Options of the protocol; the defaults are NCFM's for CIFAR-10."""

    factor: int | None = Field(
        None, ge=1, description="tiles per side of a stored image; what the distilled set says (else 1) when none"
    )
    epochs: int = Field(2000, ge=1, description="passes over the distilled set")
    batch_size: int = Field(128, ge=1, description="images per step")
    lr: float = Field(0.001, gt=0, description="AdamW's learning rate, halved after each fifth of the epochs")
    weight_decay: float = Field(0.01, ge=0, description="on all parameters")
    cutmix: float = Field(0.5, ge=0, le=1, description="share of mixed batches")
    selection: Literal["last", "best_test"] = Field(
        "last", description="headline accuracy: after the last epoch, or the best of the tests"
    )
    test_every: int = Field(100, ge=1, description="epochs between tests under best_test")


@dataclass(frozen=True, kw_only=True)
class NcfmRecipe(IdcRecipe):
    """IDC's recipe for small images with AdamW and another schedule."""

    test_every: int

    @property
    def test_epochs(self) -> Sequence[int]:
        """0-based epochs with a test."""
        every = range(self.test_every - 1, self.epochs, self.test_every) if self.selection == "best_test" else ()
        return sorted({*every, self.epochs - 1})

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        return super().settings() | {
            "optimiser": "AdamW (0.9, 0.999), decay on all parameters",
            "schedule": "×0.5 after each fifth",
            "test_every": self.test_every,
        }

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return augmentation, optimiser, schedule and step."""
        from ddbench_plugins.training import optimisers, schedules

        fifths = [number * self.epochs // 5 for number in range(1, 5)]
        return super().training(ctx, network, images, repeat) | {
            "optimiser": optimisers.adamw(self.lr, weight_decay=self.weight_decay, decay="all"),
            "schedule": schedules.multi_step(fifths, 0.5),
        }


class Ncfm(Idc):
    """Hard labels, CutMix-weighted cross-entropy, multi-formation, AdamW, halved four times."""

    Options = NcfmOptions  # type: ignore[assignment]  # of its own
    presets = "ncfm.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet with instance norm: 3 blocks up to 32 pixels, 4 up to 64, 5 above."""
        return "convnet-3" if dataset.image_size <= 32 else "convnet-4" if is_small(dataset) else "convnet-5"

    def extension(self, ctx: Context) -> str:
        """Say which data sets NCFM does not evaluate."""
        return (
            "" if ctx.dataset.name in PUBLISHED else "NCFM's setting for CIFAR-10 on a data set for which it has none"
        )

    def recipe(self, ctx: Context, distilled: DistilledSet) -> NcfmRecipe:
        """Return the options with the factor of the set."""
        options: NcfmOptions = ctx.options
        factor = options.factor or distilled.factor
        return NcfmRecipe.of(ctx, options, factor=factor, held=distilled.factor, imagenet=False, tests=0)
