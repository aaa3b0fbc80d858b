"""Batched augmentation of image tensors ``[B, C, H, W]``.

Every operation takes an explicit CPU ``torch.Generator``; the few random numbers per sample are drawn there for the
whole batch at once, the pixels are worked on where they are. Nothing is changed in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

Augment = Callable[["Tensor", "torch.Generator"], "Tensor"]

# Eigenvalues and eigenvectors of the colour covariance of ImageNet (AlexNet "PCA lighting").
_PCA_VALUES = (0.2175, 0.0188, 0.0045)
_PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
_GREY = (0.299, 0.587, 0.114)


def compose(*operations: Augment) -> Augment:
    """Apply operations in order, with one generator."""

    def augment(x: Tensor, generator: Generator) -> Tensor:
        for operation in operations:
            x = operation(x, generator)
        return x

    return augment


def normalise(mean: Sequence[float], std: Sequence[float]) -> Augment:
    """(x − mean)/std per channel; as an operation, so that it can stand at any place of a chain."""

    def apply(x: Tensor, generator: Generator) -> Tensor:
        shape = (1, -1, 1, 1)
        scale = x.new_tensor([1 / s for s in std]).view(shape)
        shift = x.new_tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(shape)
        return torch.addcmul(shift, x, scale)

    return apply


def uniform(size: Sequence[int], generator: Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """U(low, high) on the CPU."""
    return torch.rand(tuple(size), generator=generator) * (high - low) + low


def take_rows_and_columns(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Output pixel (i, j) of image b is its pixel (rows[b, i], columns[b, j]); indices ``[B, H']``, ``[B, W']``."""
    rows, columns = rows.to(x.device), columns.to(x.device)
    sample = torch.arange(x.shape[0], device=x.device)[:, None, None]
    # Advanced indices around a slice put the indexed dimensions first: [B, H', W', C], a channels-last batch.
    return x[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(x: Tensor, generator: Generator, p: float = 0.5) -> Tensor:
    """Mirror each image left-right with probability ``p``."""
    return flip(x, torch.rand(x.shape[0], generator=generator) < p)


def flip(x: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the images where ``chosen`` (bool ``[B]``) is true left-right."""
    return torch.where(chosen.to(x.device)[:, None, None, None], x.flip(-1), x)


def shift_with_zeros(x: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Output pixel (i, j) is input pixel (i+dy, j+dx), or 0 outside; shifts are integers ``[B]`` or ``[1]``."""
    b, _, h, w = x.shape
    rows = torch.arange(h) + dy.expand(b)[:, None]
    columns = torch.arange(w) + dx.expand(b)[:, None]
    # One border pixel of zeros on each side receives every index that falls outside.
    return take_rows_and_columns(F.pad(x, (1, 1, 1, 1)), rows.clamp(-1, h) + 1, columns.clamp(-1, w) + 1)


def random_crop(x: Tensor, generator: Generator, padding: int = 4) -> Tensor:
    """Zero-pad by ``padding`` and crop back to the size at a random place per image (torchvision RandomCrop)."""
    shifts = torch.randint(-padding, padding + 1, (2, x.shape[0]), generator=generator)
    return shift_with_zeros(x, shifts[0], shifts[1])


def patch_shuffle(x: Tensor, generator: Generator, factor: int) -> Tensor:
    """Permute ``factor`` vertical strips, then ``factor`` horizontal strips of each image (RDED validation/utils.py).

    Strips are ⌊W/factor⌋ wide, the last takes the remainder. For factor 2 only 4 of the 24 layouts are reachable.
    """
    if factor == 1:
        return x
    columns = _shuffled_strips(x.shape[0], x.shape[3], factor, generator)
    rows = _shuffled_strips(x.shape[0], x.shape[2], factor, generator)
    return take_rows_and_columns(x, rows, columns)


def _shuffled_strips(batch: int, side: int, factor: int, generator: Generator) -> Tensor:
    strip = (torch.arange(side) // (side // factor)).clamp(max=factor - 1)
    place = torch.rand(batch, factor, generator=generator).argsort(1)  # new place of each strip
    return place[:, strip].argsort(dim=1, stable=True)


def jitter_colours(x: Tensor, generator: Generator, strength: float = 0.4) -> Tensor:
    """Brightness, contrast and saturation in random order per image, without clamping (IDC, MinimaxDiffusion).

    Each is x + a·(g − x) with its own a ~ U(−strength, strength); g is 0, the mean of the grey image, the grey image.
    Expects RGB in [0, 1].
    """
    b = x.shape[0]
    order = torch.rand(b, 3, generator=generator).argsort(1).to(x.device)
    amounts = uniform((b, 3), generator, -strength, strength).to(x.device)
    weights = x.new_tensor(_GREY).view(1, 3, 1, 1)
    for turn in range(3):
        kind = order[:, turn].view(b, 1, 1, 1)
        a = amounts[:, turn].view(b, 1, 1, 1).to(x.dtype)
        grey = (x * weights).sum(1, keepdim=True)
        target = torch.where(kind == 2, grey, grey.mean((2, 3), keepdim=True) * (kind == 1))
        x = x + a * (target - x)
    return x


def pca_lighting(x: Tensor, generator: Generator, std: float = 0.1) -> Tensor:
    """Add Σ_j V[i,j]·α_j·w_j to channel i, α ~ N(0, std) per image (AlexNet). Expects RGB in [0, 1]; no clamping."""
    alpha = torch.randn(x.shape[0], 3, generator=generator) * std
    shift = (alpha * torch.tensor(_PCA_VALUES)) @ torch.tensor(_PCA_VECTORS).T
    return x + shift.to(x)[:, :, None, None]


def random_resized_crop(
    x: Tensor,
    generator: Generator,
    size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    antialias: bool = True,
) -> Tensor:
    """torchvision's RandomResizedCrop with its own box per image; bilinear; ``[B, C, H, W] -> [B, C, size, size]``.

    Scale (1, 1) on square images always keeps the whole image, so nothing is drawn and, at equal size, nothing done.
    """
    b, _, h, w = x.shape
    if scale == (1.0, 1.0) and h == w:
        if size == h:
            return x
        top = left = torch.zeros(b, dtype=torch.long)
        height = width = torch.full((b,), h)
    else:
        top, left, height, width = draw_resized_crops(b, h, w, generator, scale, ratio)
    return resized_crop(x, top, left, height, width, size, antialias)


def resized_crop(
    x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: int, antialias: bool = True
) -> Tensor:
    """Cut one box ``[B]`` per image and resize it bilinearly; ``[B, C, H, W] -> [B, C, size, size]``."""
    b, _, h, w = x.shape
    rows = resize_weights(top, height, h, size, antialias).to(x)
    columns = resize_weights(left, width, w, size, antialias).to(x)
    flat = x.contiguous().view(b, -1, w)  # [B, C·H, W]: one matrix product per image and axis
    wide = torch.bmm(flat, columns.transpose(1, 2)).view(b, x.shape[1], h, size)
    return torch.matmul(rows[:, None], wide)


def draw_resized_crops(
    batch: int,
    height: int,
    width: int,
    generator: Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes (top, left, height, width), each ``[batch]``, by torchvision's rule: ten attempts, else a centre crop."""
    attempts = 10
    area = height * width * uniform((batch, attempts), generator, *scale)
    aspect = torch.exp(uniform((batch, attempts), generator, math.log(ratio[0]), math.log(ratio[1])))
    w = torch.round(torch.sqrt(area * aspect)).long()
    h = torch.round(torch.sqrt(area / aspect)).long()
    valid = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = valid.int().argmax(1, keepdim=True)
    w, h, fits = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0], valid.any(1)

    fallback_w, fallback_h = width, height
    if width / height < ratio[0]:
        fallback_h = round(width / ratio[0])
    elif width / height > ratio[1]:
        fallback_w = round(height * ratio[1])
    w = torch.where(fits, w, fallback_w)
    h = torch.where(fits, h, fallback_h)
    top = (torch.rand(batch, generator=generator) * (height - h + 1)).long()
    left = (torch.rand(batch, generator=generator) * (width - w + 1)).long()
    top = torch.where(fits, top, (height - fallback_h) // 2)
    left = torch.where(fits, left, (width - fallback_w) // 2)
    return top, left, h, w


def resize_weights(start: Tensor, length: Tensor, side: int, size: int, antialias: bool) -> Tensor:
    """Matrices ``[B, size, side]`` that crop ``[start, start+length)`` of an axis and resize it bilinearly to ``size``.

    Follows torch's ``interpolate(mode="bilinear", align_corners=False, antialias=…)`` on the cropped image.
    """
    step = length.double()[:, None, None] / size
    support = step.clamp(min=1.0) if antialias else torch.ones_like(step)
    out = torch.arange(size, dtype=torch.float64)[None, :, None]
    pixel = torch.arange(side, dtype=torch.float64)[None, None, :] - start.double()[:, None, None]
    centre = (out + 0.5) * step - 0.5
    # The crop's border pixels stand in for everything outside it.
    centre = torch.where(support > 1, centre, centre.clamp(min=0).minimum(length.double()[:, None, None] - 1))
    weights = (1 - (pixel - centre).abs() / support).clamp(min=0)
    weights = weights * ((pixel >= 0) & (pixel < length[:, None, None]))
    return (weights / weights.sum(2, keepdim=True)).float()
