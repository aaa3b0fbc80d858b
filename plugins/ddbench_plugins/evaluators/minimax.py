"""The Minimax protocol: hard labels and CutMix on ImageNet subsets (Gu et al. 2024, train.py; IDC, Kim et al. 2022).

Up to 64 pixels the released code is not usable; there the rule of IDC's small images applies, and the protocol says
that it is an extension.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Evaluator, Options, Protocol, Score

EXTENSION = "small images: IDC's rule for CIFAR-size data instead of MinimaxDiffusion's for 224 pixels"
#: (largest IPC × factor², epochs) of the rule for ImageNet-like data.
EPOCHS = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
SMALL_EPOCHS = 1000


class MinimaxOptions(Options):
    """Options of the protocol; what is none follows the protocol's rule for the data set and IPC."""

    epochs: int | None = Field(None, ge=1, description="passes over the distilled set; by IPC and classes when none")
    batch_size: int = Field(64, ge=1, description="images per step")
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
        if distilled.whole:
            from ddbench_plugins.training.observers import reference

            return Protocol(reference(ctx, ctx.network), _extension(ctx.dataset))
        rule = _Rule(ctx)
        return Protocol(
            {
                "network": ctx.network,
                "label_type": "hard",
                "loss": "cross-entropy, weighted by CutMix area",
                "epochs": rule.epochs,
                "batch_size": rule.batch_size,
                "optimiser": "SGD, momentum 0.9",
                "lr": rule.lr,
                "weight_decay": rule.weight_decay,
                "schedule": "×0.2 at 2/3 and 5/6",
                "image_size": ctx.dataset.image_size,
                "augmentation": [*rule.operations, f"cutmix {rule.cutmix}"],
                "normalisation": "dataset",
                "selection": rule.selection,
            },
            _extension(ctx.dataset),
        )

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one student on hard labels and test it."""
        from ddbench_plugins.training import optimisers, schedules, students
        from ddbench_plugins.training.observers import get_teacher
        from ddbench_plugins.training.steps import hard_label_step

        if distilled.whole:
            return get_teacher(ctx, ctx.network, repeat=repeat, floor=False).score()
        rule = _Rule(ctx)
        size = ctx.dataset.image_size
        images, labels = students.training_tensors(distilled, ctx.dataset, size)
        test_images, test_labels = students.test_tensors(ctx.dataset, size)
        seed = ctx.seed("student", repeat)
        return students.train_student(
            ctx,
            ctx.build_network(seed=seed),
            images=images,
            labels=labels,
            test_images=test_images,
            test_labels=test_labels,
            mean=ctx.dataset.mean,
            std=ctx.dataset.std,
            epochs=rule.epochs,
            test_epochs=test_epochs(rule.epochs, rule.selection, is_small(ctx.dataset)),
            seed=seed,
            augment=rule.chain(),
            batch_size=rule.batch_size,
            optimiser=optimisers.sgd(rule.lr, weight_decay=rule.weight_decay),
            schedule=schedules.idc_multi_step(rule.epochs),
            step=hard_label_step(cutmix_probability=rule.cutmix),
        )


class _Rule:
    """The options with the protocol's own values filled in for one data set and IPC."""

    def __init__(self, ctx: Context) -> None:
        options: MinimaxOptions = ctx.options
        self.dataset = data = ctx.dataset
        small, many = is_small(data), data.num_classes > 100
        self.epochs = options.epochs or (SMALL_EPOCHS if small else epochs(ctx.ipc or 1, data.num_classes))
        self.batch_size = max(options.batch_size, 128) if many and not small else options.batch_size
        self.lr = options.lr or (0.1 if many and not small else 0.01)
        default_decay = 1e-4 if many and not small else 5e-4
        self.weight_decay = default_decay if options.weight_decay is None else options.weight_decay
        self.cutmix = (0.5 if small else 1.0) if options.cutmix is None else options.cutmix
        self.selection = options.selection
        kind = options.augment if options.augment != "auto" else ("idc" if small else "imagenet")
        flip = ["flip"] if data.flip else []
        self.imagenet = kind == "imagenet"
        self.operations = (
            ["random resized crop (0.5, 1)", *flip, "colour jitter 0.4", "pca lighting 0.1"]
            if self.imagenet
            else [*flip, "colour", "one of crop, scale, rotate"]
        )

    def chain(self) -> object:
        """Return the augmentation of one batch, normalisation included."""
        from ddbench_plugins.training import augment, dsa

        data = self.dataset
        flip = [augment.random_flip] if data.flip else []
        scaled = augment.normalise(data.mean, data.std)
        if not self.imagenet:
            # With CutMix on, IDC takes cutout out of the strategy.
            strategy = [name for name in dsa.STRATEGY if name != "cutout" and (data.flip or name != "flip")]
            return augment.compose(scaled, dsa.dsa("idc", strategy))
        colour = [augment.jitter_colours, augment.pca_lighting] if data.channels == 3 else []
        return augment.compose(
            lambda x, g: augment.random_resized_crop(x, g, data.image_size, scale=(0.5, 1.0)), *flip, *colour, scaled
        )


def is_small(dataset: Dataset) -> bool:
    """Whether IDC's rule for small images applies (up to 64 pixels)."""
    return dataset.image_size <= 64


def epochs(ipc: int, num_classes: int) -> int:
    """Epochs by IPC for ImageNet-like data; two thirds, floored to hundreds, for exactly 100 classes (argument.py)."""
    count = next((value for largest, value in EPOCHS if ipc <= largest), 300)
    return 2 * count // 3 // 100 * 100 if num_classes == 100 else count


def test_epochs(epochs: int, selection: str, small: bool) -> list[int]:
    """0-based epochs with a test: the last; under ``best_test`` a hundred (small images: four) spread over the run."""
    if selection == "last":
        return [epochs - 1]
    every = max(1, epochs // (4 if small else 100))
    return [epoch - 1 for epoch in range(every, epochs + 1, every)]


def _extension(dataset: Dataset) -> str:
    return EXTENSION if is_small(dataset) else ""
