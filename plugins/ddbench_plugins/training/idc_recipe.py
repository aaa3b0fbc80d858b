"""The hard-label recipe of IDC, which MinimaxDiffusion took over: SGD, CutMix-weighted cross-entropy, ×0.2 twice.

Kim et al. 2022 (IDC: argument.py, train.py, misc/augment.py) and Gu et al. 2024 (MinimaxDiffusion: the same files).
What the two do differently is a field here and decided by their evaluators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddbench_plugins.training.recipe import StudentRecipe, formation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from ddbench import Context, Dataset
    from ddbench_plugins.training.augment import Augment

#: (largest IPC × factor², epochs) of the rule for ImageNet-like data.
EPOCHS = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
SMALL_EPOCHS = 1000
#: Largest side to which the rule for small images applies.
SMALL_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class IdcRecipe(StudentRecipe):
    """Hard labels, CutMix, SGD with momentum 0.9.

    Attributes:
        cutmix: share of mixed batches.
        imagenet: the ImageNet chain of augmentations; else IDC's differentiable ones (DSA).
        cutout: whether cutout is among the latter.
        factor: multi-formation: every image is cut into factor × factor tiles, each enlarged to the full size.
        held: into so many its set says that it is to be cut.
        tests: how many tests are spread over the run under ``best_test``.
    """

    cutmix: float
    imagenet: bool
    cutout: bool = False
    factor: int = 1
    held: int = 1
    tests: int

    @classmethod
    def by_rule(
        cls, ctx: Context, options: Any, *, many: bool, epochs: int, cutmix: float, **resolved: Any
    ) -> IdcRecipe:
        """Return the recipe, filling in what options leave to the rule: with ``many`` classes, faster training."""
        return cls.of(
            ctx,
            options,
            epochs=options.epochs or epochs,
            batch_size=options.batch_size or (128 if many else 64),
            lr=options.lr or (0.1 if many else 0.01),
            weight_decay=(1e-4 if many else 5e-4) if options.weight_decay is None else options.weight_decay,
            cutmix=cutmix if options.cutmix is None else options.cutmix,
            **resolved,
        )

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

    @property
    def test_epochs(self) -> Sequence[int]:
        """0-based epochs with a test."""
        return test_epochs(self.epochs, self.selection, self.tests)

    @property
    def one_layout(self) -> bool:
        """Whether every step draws as many random numbers as any other."""
        return self.imagenet and self.cutmix in (0, 1)

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        mean, std = self.constants
        return super().settings() | {
            "loss": "cross-entropy, weighted by CutMix area",
            "optimiser": "SGD, momentum 0.9",
            "schedule": "×0.2 at 2/3 and 5/6",
            "augmentation": self.operations,
            **formation(self.factor, self.held),
            "normalisation": "dataset" if mean == self.dataset.mean else [list(mean), list(std)],
        }

    def augmentation(self) -> Augment:
        """Return the augmentation of one batch, normalisation included."""
        from ddbench_plugins.training import augment, dsa

        data = self.dataset
        scaled = augment.normalise(*self.constants)
        if not self.imagenet:
            left_out = {*(() if self.cutout else ("cutout",)), *(() if data.flip else ("flip",))}
            return augment.compose(scaled, dsa.dsa("idc", [name for name in dsa.STRATEGY if name not in left_out]))
        flip = [augment.random_flip] if data.flip else []
        colour = [augment.jitter_colours, augment.pca_lighting] if data.channels == 3 else []
        crop = augment.random_resized_crop.of(size=data.image_size, scale=(0.5, 1.0))
        return augment.compose(crop, *flip, *colour, scaled)

    def decoded(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tiles of the distilled images."""
        from ddbench_plugins.training.formation import decode

        return decode(images, labels, self.factor)

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return augmentation, optimiser, schedule and step."""
        from ddbench_plugins.training import optimisers, schedules, steps

        return {
            "augment": self.augmentation(),
            "optimiser": optimisers.sgd(self.lr, weight_decay=self.weight_decay),
            "schedule": schedules.idc_multi_step(self.epochs),
            "step": steps.hard_label_step(cutmix_probability=self.cutmix),
        }


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
