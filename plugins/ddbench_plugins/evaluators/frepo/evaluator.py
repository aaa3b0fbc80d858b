"""The protocol of FRePo: a network without norm is trained to the real-valued labels of the set by squared error.

Zhou et al. 2022, script/eval.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options
from ddbench_plugins.evaluators.real_labels import RealLabelEvaluator, RealLabelRecipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from ddbench_plugins.training.numbers import Operation
    from ddbench_plugins.training.steps import Batches

#: Steps by the number of images (eval.py); numbers without an entry have those of the next smaller one.
STEPS = {10: 1000, 100: 2000, 200: 20_000, 400: 5000, 500: 5000, 1000: 10_000, 2000: 40_000, 5000: 40_000}
#: The learning rate ends at this share of its height.
LAST_RATE = 0.01


class FrepoOptions(Options):
    """Options of the protocol."""

    steps: int | None = Field(None, ge=1, description="of the optimiser; by the number of images when none")
    batch_size: int = Field(500, ge=1, description="images per step")
    lr: float = Field(
        3e-4, gt=0, description="Adam's learning rate after the warm-up; a cosine takes it to a hundredth"
    )
    warmup: int = Field(500, ge=0, description="steps in which the learning rate rises from 0")
    fixed_order: bool = Field(
        False, description="every pass in the order of the set, class by class, as the released code; else shuffled"
    )


@dataclass(frozen=True, kw_only=True)
class FrepoRecipe(RealLabelRecipe):
    """Squared error to real-valued labels, Adam, one augmentation per batch.

    Attributes:
        warmup: steps in which the learning rate rises.
        fixed_order: whether batches are the same in every pass.
    """

    warmup: int
    fixed_order: bool

    @property
    def operations(self) -> tuple[str, ...]:
        """The augmentations one of which a batch gets."""
        from ddbench_plugins.evaluators.frepo.augment import OPERATIONS

        return OPERATIONS if self.dataset.flip else OPERATIONS[1:]

    @property
    def one_layout(self) -> bool:
        """Whether every step draws as many random numbers as any other."""
        return len(self.operations) == 1

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        return super().settings() | {
            "optimiser": "Adam",
            "schedule": f"linear over {self.warmup} steps, cosine to {LAST_RATE}",
            "order": "fixed" if self.fixed_order else "shuffled",
            "augmentation": list(self.operations),
        }

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return augmentation, optimiser, schedule and loss."""
        import torch

        from ddbench_plugins.evaluators.frepo.augment import one_for_all
        from ddbench_plugins.training import augment, optimisers, schedules, steps

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return (outputs.float() - targets).square().sum(1).mean() / 2

        chain = augment.compose(augment.normalise(*self.constants), one_for_all(self.operations))
        made = {
            "augment": chain,
            "optimiser": optimisers.adam(self.lr),
            "schedule": schedules.warmup_cosine(self.epochs, self.warmup * self.epochs / self.steps, 0.0, LAST_RATE),
            "schedule_per_step": True,
            "step": steps.given_label_step(loss),
        }
        if self.fixed_order:
            labels = torch.tensor(self.targets, dtype=torch.float32)
            device = ctx.machine.device
            seed = ctx.seed("student", repeat)
            made["batches"] = _in_order(images.to(device), labels.to(device), self.batch_size, chain, seed)
        return made


def _in_order(images: Tensor, labels: Tensor, size: int, chain: Operation, seed: int) -> Batches:
    import torch

    from ddbench_plugins.training.predict import as_float
    from ddbench_plugins.training.seeding import make_generator
    from ddbench_plugins.training.steps import Batch, Batches

    def draw(epoch: int) -> Iterator[tuple[Any, ...]]:
        generator = make_generator(seed, epoch)
        for chosen in torch.arange(len(images)).split(size):
            yield chosen, chain.draw((len(chosen), *images.shape[1:]), generator)

    def make(chosen: Tensor, drawn: Any) -> Batch:
        x = chain.apply(as_float(images[chosen]), *drawn)
        return Batch(x.contiguous(memory_format=torch.channels_last), labels[chosen], chosen)

    return Batches(draw, make)


class Frepo(RealLabelEvaluator):
    """Squared error to the set's centred labels, or to its classes', by networks without norm."""

    Options = FrepoOptions
    presets = "frepo.toml"
    default_repeats = 5

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """The ConvNet without norm: four blocks from 64 pixels on; a quarter of the width at cpu scale."""
        name = "frepo-convnet-4" if dataset.image_size >= 64 else "frepo-convnet-3"
        return name if scale == "paper" else f"{name}-w32"

    def recipe(self, ctx: Context, distilled: DistilledSet) -> FrepoRecipe:
        """Return the options with the protocol's own values filled in."""
        options: FrepoOptions = ctx.options
        count = len(distilled.labels)
        steps = options.steps or STEPS[max((n for n in STEPS if n <= count), default=min(STEPS))]
        # FRePo's own labels begin so scaled.
        divisor = math.sqrt(ctx.dataset.num_classes / 10)
        return FrepoRecipe.for_set(ctx, options, distilled, steps, divisor=divisor, weight_decay=0.0)
