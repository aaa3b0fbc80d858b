"""The protocol of DC, DSA, DM and MTT: a ConvNet trained on hard labels, the last accuracy counts.

Zhao et al. 2021 (DC), Zhao & Bilen 2021 (DSA), Zhao & Bilen 2023 (DM): utils.py (evaluate_synset, get_daparam,
DiffAugment) and main.py; Cazenavette et al. 2022 (MTT): utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options, Protocol, Score, UsageError
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.training.recipe import StudentRecipe, formation, learned_rate
from ddbench_plugins.training.whitening import normalisation_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import Tensor, nn

    from ddbench_plugins.training.augment import Augment

PLAIN_EPOCHS, AUGMENTED_EPOCHS = 300, 1000
#: What DC adds for one evaluated family of networks, whatever the data set.
NOISE_NETWORKS = ("convnet-1-bn", "convnet-2-bn", "convnet-3-bn", "convnet-4-bn", "convnet-5-bn", "convnet-6-bn")


class DcOptions(Options):
    """Options of the protocol; what is none follows the released code's rule."""

    augment: Literal["auto", "plain", "dsa", "crop_scale_rotate", "crop_noise"] = Field(
        "auto",
        description="dsa: as for DSA, DM and MTT; auto: as for DC, that is plain but for MNIST (crop_scale_rotate) and"
        " ConvNets with batch norm (crop_noise)",
    )
    epochs: int | None = Field(
        None, ge=1, description="passes over the distilled set; 300, or 1000 with augmentation, when none"
    )
    batch_size: int = Field(256, ge=1, description="images per step")
    lr: float | None = Field(
        None, gt=0, description="SGD's learning rate; the one the distilled set has learned, else 0.01, when none"
    )
    weight_decay: float = Field(5e-4, ge=0, description="on all parameters")
    extra_epoch: bool = Field(False, description="one epoch more than specified, as the released code runs")
    reset_optimiser: bool = Field(
        False, description="forget the momentum where the learning rate drops, as the released code does"
    )
    decode: bool | None = Field(
        None,
        description="cut stored images that hold several (IDM, NCFM, IDC) apart, each enlarged to the full size; off:"
        " they are images as they are; asked for where a set has such images",
        json_schema_extra={"later": True},
    )


@dataclass(frozen=True, kw_only=True)
class DcRecipe(StudentRecipe):
    """Hard labels, SGD with momentum 0.9.

    Attributes:
        kind: the augmentation.
        counted: epochs as the papers count them; those of the released code are one more.
        learned: whether the learning rate is the one that travels with the set.
        reset_optimiser: forget the momentum where the learning rate drops.
        factor: every image is cut into factor × factor tiles, each enlarged to the full size.
        held: into so many its set says that it is to be cut.
    """

    kind: str
    counted: int
    learned: bool
    reset_optimiser: bool
    factor: int
    held: int

    @property
    def one_layout(self) -> bool:
        """Whether every step draws as many random numbers as any other."""
        return self.kind == "plain"

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        return super().settings() | {
            "loss": "cross-entropy",
            "optimiser": "SGD, momentum 0.9" + (", made anew at the drop" if self.reset_optimiser else ""),
            # A rate that was learned differs from set to set; in words, all such sets share one protocol.
            "lr": Protocol.LEARNED if self.learned else self.lr,
            "schedule": f"×0.1 after {self.counted // 2 + 2} epochs",
            "augmentation": [self.kind, *(["flip"] if self.kind == "dsa" and self.dataset.flip else [])],
            **formation(self.factor, self.held),
        }

    def decoded(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tiles of the distilled images."""
        from ddbench_plugins.training.formation import decode

        return decode(images, labels, self.factor)

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return augmentation, optimiser and schedule."""
        from ddbench_plugins.training import optimisers, schedules

        return {
            "augment": chain(self.kind, self.dataset, *self.constants),
            "optimiser": optimisers.sgd(self.lr, weight_decay=self.weight_decay),
            "schedule": schedules.dc_step(self.counted),
            "restart_optimiser_at": [schedules.dc_restart_epoch(self.counted)] if self.reset_optimiser else [],
        }


class Dc(StudentEvaluator):
    """Hard labels, SGD, ×0.1 once in the middle, no selection of epochs."""

    Options: ClassVar[type[DcOptions]] = DcOptions
    presets: ClassVar[str | Sequence[Mapping[str, Any] | str]] = "dc.toml"
    default_network = "convnet-3"
    default_repeats = 5
    whitens = True

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Ask how images that hold several are to be read: the wrong way gives chance accuracy."""
        super().check(ctx, holds)
        if ctx.options.decode is None and "tiles" in {*holds}:  # is known to be there
            raise UsageError(
                f"Each image of {ctx.method} holds several others, and networks can see it in two ways.",
                hint="Say -o eval.decode=true, as their papers do: they are cut apart and enlarged; or false: images"
                " are taken as they are stored.",
            )

    def decodes(self, ctx: Context) -> bool:
        """Where it is asked for."""
        return bool(ctx.options.decode)

    def recipe(self, ctx: Context, distilled: DistilledSet) -> DcRecipe:
        """Return the options with the released code's rules filled in."""
        options: DcOptions = ctx.options
        kind = augmentation(options.augment, ctx.dataset, ctx.network)
        counted = epochs(options, kind)
        return DcRecipe.of(
            ctx,
            options,
            kind=kind,
            counted=counted,
            epochs=counted + options.extra_epoch,
            lr=options.lr or learned_rate(distilled) or 0.01,
            learned=not options.lr and bool(learned_rate(distilled)),
            normalisation=normalisation_of(ctx, distilled),
            factor=distilled.factor if options.decode else 1,
            held=distilled.factor,
        )

    def score(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one student and test it; a learned learning rate is among the figures."""
        return self._told(ctx, distilled, super().score(ctx, distilled, repeat))

    def evaluate_together(self, ctx: Context, distilled: DistilledSet, repeats: Sequence[int]) -> list[Score]:
        """Train students at once and test each; a learned learning rate is among the figures."""
        return [self._told(ctx, distilled, score) for score in super().evaluate_together(ctx, distilled, repeats)]

    def _told(self, ctx: Context, distilled: DistilledSet, score: Score) -> Score:
        recipe = self.recipe(ctx, distilled)
        return replace(score, metrics={**score.metrics, "learning_rate": recipe.lr}) if recipe.learned else score


def augmentation(wanted: str, dataset: Dataset, network: str) -> str:
    """Return the augmentation that ``auto`` stands for (get_daparam in utils.py)."""
    if wanted != "auto":
        return wanted
    if network in NOISE_NETWORKS:
        return "crop_noise"
    return "crop_scale_rotate" if dataset.name == "mnist" else "plain"


def epochs(options: DcOptions, kind: str) -> int:
    """Return the epochs as the papers count them: 300, or 1000 with augmentation (main.py)."""
    return options.epochs or (PLAIN_EPOCHS if kind == "plain" else AUGMENTED_EPOCHS)


def chain(kind: str, dataset: Dataset, mean: Sequence[float], std: Sequence[float]) -> Augment:
    """Return the augmentation of one batch; normalisation comes first, so that empty borders are the mean colour."""
    from ddbench_plugins.evaluators.dc import augment as dc_augment
    from ddbench_plugins.training import augment, dsa

    scaled = augment.normalise(mean, std)
    match kind:
        case "plain":
            return scaled
        case "dsa":
            return augment.compose(scaled, dsa.dsa("dc", dsa.STRATEGY if dataset.flip else dsa.STRATEGY_WITHOUT_FLIP))
        case _:
            return augment.compose(scaled, dc_augment.one_of(kind.split("_")))
