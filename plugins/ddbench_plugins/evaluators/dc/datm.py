"""DATM's protocol: that of MTT with the soft labels that travel with the set (Guo et al. 2024, evaluation/)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ddbench_plugins.evaluators.dc.evaluator import Dc, DcOptions, DcRecipe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ddbench import Context, DistilledSet


class DatmOptions(DcOptions):
    """Options of the protocol: those of DC's."""

    augment: Literal["auto", "plain", "dsa", "crop_scale_rotate", "crop_noise"] = Field(
        "dsa", description="dsa: as for DATM; auto: as for DC"
    )
    batch_size: int = Field(128, ge=1, description="images per step")


@dataclass(frozen=True, kw_only=True)
class DatmRecipe(DcRecipe):
    """DC's recipe with the labels of the set: ``soft_labels`` [N, K] where it has them, else the hard ones."""

    soft_labels: NDArray[Any] | None

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        kind = "hard" if self.soft_labels is None else "soft"
        return super().settings() | {"label_type": kind, "labels": "of the distilled set"}

    def decoded(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images with the labels to train on."""
        import torch

        tiles, hard = super().decoded(images, labels)
        if self.soft_labels is None:
            return tiles, hard
        own = [(labels == label).nonzero().flatten().repeat(self.factor**2) for label in labels.unique()]
        return tiles, torch.tensor(self.soft_labels)[torch.cat(own)]


class Datm(Dc):
    """DC's protocol with DSA, batches of 128 and the labels that travel with the set."""

    Options = DatmOptions

    def recipe(self, ctx: Context, distilled: DistilledSet) -> DatmRecipe:
        """Return DC's recipe with the labels of the set."""
        return DatmRecipe(**vars(super().recipe(ctx, distilled)), soft_labels=distilled.soft_labels)
