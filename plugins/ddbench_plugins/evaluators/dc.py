"""The protocol of DC, DSA, DM and MTT: a ConvNet trained on hard labels, the last accuracy counts.

Zhao et al. 2021 (DC), Zhao & Bilen 2021 (DSA), Zhao & Bilen 2023 (DM): utils.py (evaluate_synset, get_daparam,
DiffAugment) and main.py; Cazenavette et al. 2022 (MTT): utils.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Evaluator, Options, Protocol, Score

if TYPE_CHECKING:
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
    extra_epoch: bool = Field(False, description="one epoch more than said, as the released code runs")
    reset_optimiser: bool = Field(
        False, description="forget the momentum where the learning rate drops, as the released code does"
    )


class Dc(Evaluator):
    """Hard labels, SGD, ×0.1 once in the middle, no selection of epochs."""

    Options = DcOptions
    presets = "dc.toml"
    default_network = "convnet-3"
    default_repeats = 5

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        if distilled.whole:
            from ddbench_plugins.teachers.observers import reference

            return Protocol(reference(ctx, ctx.network))
        options: DcOptions = ctx.options
        kind = augmentation(options.augment, ctx.dataset, ctx.network)
        return Protocol(
            {
                "network": ctx.network,
                "label_type": "hard",
                "loss": "cross-entropy",
                "epochs": epochs(options, kind) + options.extra_epoch,
                "batch_size": options.batch_size,
                "optimiser": "SGD, momentum 0.9" + (", made anew at the drop" if options.reset_optimiser else ""),
                # A rate that was learned differs from set to set; in words, all such sets share one protocol.
                "lr": Protocol.LEARNED if learned(options, distilled) else learning_rate(options, distilled),
                "weight_decay": options.weight_decay,
                "schedule": f"×0.1 after {epochs(options, kind) // 2 + 2} epochs",
                "image_size": ctx.dataset.image_size,
                "augmentation": [kind, *(["flip"] if kind == "dsa" and ctx.dataset.flip else [])],
                "normalisation": "dataset",
                "selection": "last",
            }
        )

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one network and test it once."""
        from ddbench_plugins.teachers.observers import get_teacher
        from ddbench_plugins.training import optimisers, schedules, students

        if distilled.whole:
            return get_teacher(ctx, ctx.network, repeat=repeat, floor=False).score()
        options: DcOptions = ctx.options
        data = ctx.dataset
        kind = augmentation(options.augment, data, ctx.network)
        count = epochs(options, kind)
        run = count + options.extra_epoch
        images, labels = students.training_tensors(distilled, data, data.image_size)
        test_images, test_labels = students.test_tensors(data, data.image_size)
        seed = ctx.seed("student", repeat)
        score = students.train_student(
            ctx,
            ctx.build_network(seed=seed),
            images=images,
            labels=labels,
            test_images=test_images,
            test_labels=test_labels,
            mean=data.mean,
            std=data.std,
            epochs=run,
            test_epochs=[run - 1],
            seed=seed,
            augment=chain(kind, data),
            batch_size=options.batch_size,
            optimiser=optimisers.sgd(learning_rate(options, distilled), weight_decay=options.weight_decay),
            schedule=schedules.dc_step(count),
            restart_optimiser_at=[schedules.dc_restart_epoch(count)] if options.reset_optimiser else [],
        )
        if learned(options, distilled):
            return replace(score, metrics={**score.metrics, "learning_rate": learning_rate(options, distilled)})
        return score


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


def learned(options: DcOptions, distilled: DistilledSet) -> bool:
    """Return whether the learning rate is the one that travels with the set."""
    return not options.lr and bool(distilled.learning_rate)


def learning_rate(options: DcOptions, distilled: DistilledSet) -> float:
    """Return SGD's learning rate: as set, as learned with the set (MTT), or 0.01."""
    return options.lr or distilled.learning_rate or 0.01


def chain(kind: str, dataset: Dataset) -> Augment:
    """Return the augmentation of one batch; normalisation comes first, so that empty borders are the mean colour."""
    from ddbench_plugins.training import augment, dc_augment, dsa

    scaled = augment.normalise(dataset.mean, dataset.std)
    match kind:
        case "plain":
            return scaled
        case "dsa":
            return augment.compose(scaled, dsa.dsa("dc", dsa.STRATEGY if dataset.flip else dsa.STRATEGY_WITHOUT_FLIP))
        case _:
            return augment.compose(scaled, dc_augment.one_of(kind.split("_")))
