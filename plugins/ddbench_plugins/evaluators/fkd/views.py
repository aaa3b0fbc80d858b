"""Augmented batches as data: what was cropped, mirrored and mixed with what, drawn once and rendered any time.

A relabelling teacher, a student that asks the teacher online, and a student that replays stored labels see the same
pixels, because all three render the same views.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from ddbench_plugins.training import augment, mixing
from ddbench_plugins.training.predict import as_float
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor

Crop = Literal["resized", "padded", "none"]
Mix = Literal["cutmix", "mixup", "none"]


class View(NamedTuple):
    """One augmented batch of B images of S×S pixels. What its recipe does not do is None."""

    indices: Tensor
    """int64 ``[B]``: which images, in this order."""
    crops: Tensor | None
    """int64 ``[B, 4]``: top, left, height, width in pixels; a padded crop may begin at −padding and end outside."""
    flips: Tensor | None
    """bool ``[B]``: mirrored left-right after the crop."""
    partners: Tensor | None
    """int64 ``[B]``: position in this batch of the image that was mixed in."""
    ratio: Tensor | None
    """λ, float64: share of the image itself (after clipping the box, for CutMix)."""
    box: Tensor | None
    """CutMix: int64 ``[4]``, (top, bottom, left, right), half-open, of the part that comes from the partner."""
    pixels: Tensor | None = None
    """uint8 ``[B, C, S, S]``: the images themselves where they were changed before all that; not stored."""


@dataclass(frozen=True)
class ViewRecipe:
    """How views are drawn and rendered: crop, flip, normalise, mix, in that order.

    Attributes:
        crop: ``resized``: torchvision's RandomResizedCrop of area ``crop_scale`` to 1; ``padded``: ``padding`` black
            pixels on each side, cut back to the size; ``none``.
        flip: mirror every second image.
        mix: ``cutmix`` (β = 1), ``mixup`` (Beta(``mixup_alpha``, ``mixup_alpha``)) or ``none``, once per batch.
        mean, std: constants per channel, of pixels scaled to [0, 1].
    """

    crop: Crop
    crop_scale: float
    padding: int
    flip: bool
    mix: Mix
    mixup_alpha: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for keys and descriptions."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def epoch(self, count: int, side: int, batch_size: int, *parts: int) -> Iterator[View]:
        """Draw the views of an epoch over ``count`` images; seed and epoch in ``parts`` determine them."""
        generator = make_generator(*parts)
        for chosen in torch.randperm(count, generator=generator).split(batch_size):
            yield self.draw(chosen, side, generator)

    def draw(self, indices: Tensor, side: int, generator: Generator) -> View:
        """Draw one view of the images ``indices`` of ``side`` × ``side`` pixels."""
        b = len(indices)
        crops = None
        if self.crop == "resized":
            scale, aspect = (self.crop_scale, 1.0), (3 / 4, 4 / 3)
            crops = torch.stack(augment.draw_resized_crops(b, side, side, generator, scale, aspect), dim=1)
        elif self.crop == "padded":
            shifts = torch.randint(-self.padding, self.padding + 1, (b, 2), generator=generator)
            crops = torch.cat([shifts, torch.full((b, 2), side)], dim=1)
        flips = torch.rand(b, generator=generator) < 0.5 if self.flip else None
        if self.mix == "none":
            return View(indices, crops, flips, None, None, None)
        # The box or share is drawn before the partners.
        if self.mix == "cutmix":
            partners, box, ratio = mixing.draw_cutmix((b, 0, side, side), generator)
            return View(indices, crops, flips, partners, ratio, box)
        partners, ratio = mixing.draw_mixup((b, 0, side, side), generator, self.mixup_alpha)
        return View(indices, crops, flips, partners, ratio, None)

    def render(self, images: Tensor, view: View) -> Tensor:
        """Return the batch float ``[B, C, S, S]`` that a view shows of ``images`` ``[N, C, S, S]`` (uint8 or float)."""
        x = as_float(images[view.indices.to(images.device)] if view.pixels is None else view.pixels)
        if view.crops is not None:
            top, left, height, width = view.crops.unbind(1)
            if self.crop == "padded":
                x = augment.shift_with_zeros(x, top, left)
            else:
                x = augment.resized_crop(x, top, left, height, width, x.shape[-1])
        if view.flips is not None:
            x = augment.flip(x, view.flips)
        x = augment.normalise(self.mean, self.std)(x, torch.default_generator)
        if view.partners is not None:
            partners = view.partners.to(x.device)
            if view.box is not None:
                x = mixing.paste(x, partners, view.box)
            else:
                assert view.ratio is not None
                x = mixing.blend(x, partners, view.ratio)
        return x.contiguous(memory_format=torch.channels_last)
