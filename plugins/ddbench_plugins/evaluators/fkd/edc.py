"""EDC's protocol: G-VBSM's with RandAugment, small batches, and tests of averaged weights.

Shao et al., *Elucidating the Design Space of Dataset Condensation*, NeurIPS 2024 (Branch_*/train/direct_train.py,
train.sh).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from ddbench_plugins.evaluators.fkd.gvbsm import GVbsm, GVbsmOptions, GVbsmRecipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from ddbench import Context
    from ddbench_plugins.evaluators.fkd.views import View
    from ddbench_plugins.training.steps import Batches

EXTENSION = "other teachers than the released code's, which takes three to eight networks of its own"

#: Of the learning rate.
Rates = Literal["cosine", "half_cosine", "half_cosine_drop", "three_halves", "linear", "half_linear", "warmup_cosine"]


class EdcOptions(GVbsmOptions):
    """Options of the protocol; the defaults are those of the released code for CIFAR-10."""

    labels: Literal["stored", "online"] = Field(
        "online", description="ask the teachers in every step, or label once and replay, which needs randaugment=false"
    )
    ce_weight: float = Field(0.025, ge=0, description=GVbsmOptions.model_fields["ce_weight"].description)
    batch_size: int = Field(10, ge=1, description="images per step, at most the set")
    weight_decay: float = Field(0.01, ge=0, description="of the parameters that decay")
    schedule: Rates = Field(  # type: ignore[assignment]  # three more
        "three_halves",
        description="halved at .8, .9 and .95 of the epochs; cosine or line to one half; that cosine until 5/6 of the"
        " epochs, then a line from a sixth of it to 0; cosine or linear to 0; 5 epochs of linear warm-up, then cosine"
        " to 0",
    )
    randaugment: bool = Field(True, description="two random operations on each image before the crop (RandAugment)")
    average: float = Field(
        0.99, ge=0, lt=1, description="decay of the moving average of the weights that are tested; 0: the last weights"
    )
    test_from: float = Field(
        0.8, ge=0, lt=1, description="share of the epochs before which there is no test under best_test"
    )

    @model_validator(mode="after")
    def _views_can_be_stored(self) -> Self:
        if self.labels == "stored" and self.randaugment:
            raise ValueError("labels=stored keeps no changed images: set randaugment=false with it")
        return self


@dataclass(frozen=True, kw_only=True)
class EdcRecipe(GVbsmRecipe):
    """G-VBSM's recipe with changed images and averaged weights."""

    @property
    def test_epochs(self) -> list[int]:
        """0-based epochs with a test: FKD's, but only the last of those up to a share of the epochs."""
        share = self.options.test_from  # type: ignore[attr-defined]
        *early, last = super().test_epochs
        return [*(epoch for epoch in early if not share or epoch > share * self.epochs), last]

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return G-VBSM's, and the decay of the average."""
        average = self.options.average  # type: ignore[attr-defined]
        return {**super().training(ctx, network, images, repeat), "average": average}

    def _batches(self, ctx: Context, images: Tensor, repeat: int) -> Batches:
        from ddbench_plugins.training.pixels import as_bytes
        from ddbench_plugins.training.steps import Batches

        labelled = super()._batches(ctx, images, repeat)
        if not self.options.randaugment:  # type: ignore[attr-defined]
            return labelled
        still, seed = images.cpu(), ctx.seed("views", repeat)
        still = as_bytes((still * 255).round()) if still.is_floating_point() else still

        def draw(epoch: int) -> Iterator[tuple[View]]:
            for number, (view,) in enumerate(labelled.draw(epoch)):
                yield (view._replace(pixels=randaugmented(still[view.indices], seed, epoch, number)),)

        return Batches(draw, labelled.make)


class Edc(GVbsm):
    """Soft labels of several teachers online, squared error and cross-entropy, averaged weights."""

    Options = EdcOptions  # type: ignore[assignment]  # not every kind of label
    Recipe = EdcRecipe
    presets = ("gvbsm.toml", "edc.toml")  # type: ignore[assignment]

    def extension(self, ctx: Context) -> str:
        """Say that the teachers are others."""
        return EXTENSION


def randaugmented(images: Tensor, *place: int) -> Tensor:
    """Return uint8 images [B, C, S, S] on the CPU, each after two operations of strength 9 of 30, of its own."""
    import torch
    from torchvision.transforms import RandAugment

    from ddbench_plugins.training.seeding import seeded

    change = RandAugment()
    with seeded(*place, "RandAugment"):
        return torch.stack([change(image) for image in images])
