"""The hard-label recipe of IDC, which MinimaxDiffusion took over: SGD, CutMix-weighted cross-entropy, ×0.2 twice.

Kim et al. 2022 (IDC: argument.py, train.py, misc/augment.py) and Gu et al. 2024 (MinimaxDiffusion: the same files).
What the two do differently is a field here and decided by their evaluators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench import Context, Dataset, DistilledSet, Score
    from ddbench_plugins.training.augment import Augment

#: (largest IPC × factor², epochs) of the rule for ImageNet-like data.
EPOCHS = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
SMALL_EPOCHS = 1000
#: Largest side to which the rule for small images applies.
SMALL_SIDE = 64


@dataclass(frozen=True)
class Recipe:
    """All that one training depends on.

    Attributes:
        epochs, batch_size, lr, weight_decay: of SGD with momentum 0.9.
        cutmix: share of mixed batches.
        imagenet: the ImageNet chain of augmentations; else IDC's differentiable ones (DSA).
        cutout: whether cutout is among the latter.
        factor: multi-formation: every image is cut into factor × factor tiles, each enlarged to the full size.
        mean, std: normalisation of the student's inputs.
        selection: ``last`` or ``best_test``.
        tests: how many tests are spread over the run under ``best_test``.
    """

    dataset: Dataset
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    cutmix: float
    imagenet: bool
    cutout: bool
    factor: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    selection: str
    tests: int

    @property
    def operations(self) -> list[str]:
        """The augmentations in words, as the protocol states them."""
        flip = ["flip"] if self.dataset.flip else []
        if self.imagenet:
            colour = ["colour jitter 0.4", "pca lighting 0.1"] if self.dataset.channels == 3 else []
            chain = ["random resized crop (0.5, 1)", *flip, *colour]
        else:
            chain = [*flip, "colour", "one of crop, scale, rotate", *(["cutout"] if self.cutout else [])]
        return [*chain, f"cutmix {self.cutmix}"]

    def settings(self, network: str) -> dict[str, Any]:
        """What the protocol says of a training."""
        return {
            "network": network,
            "label_type": "hard",
            "loss": "cross-entropy, weighted by CutMix area",
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimiser": "SGD, momentum 0.9",
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "schedule": "×0.2 at 2/3 and 5/6",
            "image_size": self.dataset.image_size,
            "augmentation": self.operations,
            **({"formation": f"{self.factor} × {self.factor} tiles, bilinear"} if self.factor > 1 else {}),
            "normalisation": "dataset" if self.mean == self.dataset.mean else [list(self.mean), list(self.std)],
            "selection": self.selection,
        }

    def augmentation(self) -> Augment:
        """Return the augmentation of one batch, normalisation included."""
        from ddbench_plugins.training import augment, dsa

        data = self.dataset
        scaled = augment.normalise(self.mean, self.std)
        if not self.imagenet:
            left_out = {*(() if self.cutout else ("cutout",)), *(() if data.flip else ("flip",))}
            return augment.compose(scaled, dsa.dsa("idc", [name for name in dsa.STRATEGY if name not in left_out]))
        flip = [augment.random_flip] if data.flip else []
        colour = [augment.jitter_colours, augment.pca_lighting] if data.channels == 3 else []
        return augment.compose(
            lambda x, g: augment.random_resized_crop(x, g, data.image_size, scale=(0.5, 1.0)), *flip, *colour, scaled
        )

    def train(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one student on hard labels and test it."""
        from ddbench_plugins.training import optimisers, schedules, students
        from ddbench_plugins.training.formation import decode
        from ddbench_plugins.training.steps import hard_label_step

        size = self.dataset.image_size
        images, labels = decode(*students.training_tensors(distilled, self.dataset, size), self.factor)
        test_images, test_labels = students.test_tensors(self.dataset, size)
        seed = ctx.seed("student", repeat)
        return students.train_student(
            ctx,
            ctx.build_network(seed=seed),
            images=images,
            labels=labels,
            test_images=test_images,
            test_labels=test_labels,
            mean=self.mean,
            std=self.std,
            epochs=self.epochs,
            test_epochs=test_epochs(self.epochs, self.selection, self.tests),
            seed=seed,
            augment=self.augmentation(),
            batch_size=self.batch_size,
            optimiser=optimisers.sgd(self.lr, weight_decay=self.weight_decay),
            schedule=schedules.idc_multi_step(self.epochs),
            step=hard_label_step(cutmix_probability=self.cutmix),
        )


def is_small(dataset: Dataset) -> bool:
    """Whether the rule for small images applies (up to 64 pixels)."""
    return dataset.image_size <= SMALL_SIDE


def epochs(images_per_class: int, num_classes: int) -> int:
    """Epochs by images per class (IPC × factor²) for ImageNet-like data (argument.py).

    With exactly 100 classes two thirds of it, floored to hundreds.
    """
    count = next((value for largest, value in EPOCHS if images_per_class <= largest), 300)
    return 2 * count // 3 // 100 * 100 if num_classes == 100 else count


def test_epochs(epochs: int, selection: str, tests: int) -> Sequence[int]:
    """0-based epochs with a test: the last; under ``best_test`` also every multiple of ⌊epochs / tests⌋.

    For all epochs of the rule the last one is such a multiple, as in the released code.
    """
    if selection == "last":
        return [epochs - 1]
    every = max(1, epochs // tests)
    return sorted({*range(every - 1, epochs, every), epochs - 1})
