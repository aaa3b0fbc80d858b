"""Batched augmentation of image tensors ``[B, C, H, W]``.

Every operation takes an explicit CPU ``torch.Generator``; the few random numbers per sample are drawn there for the
whole batch at once, or for many batches beforehand (:class:`ddbench_plugins.training.numbers.Operation`), and the
pixels are worked on where they are. Nothing is changed in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import torch
import torch.nn.functional as F

from ddbench_plugins.training.numbers import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from ddbench_plugins.training.numbers import Shape

Augment = Callable[["Tensor", "torch.Generator"], "Tensor"]

# Eigenvalues and eigenvectors of the colour covariance of ImageNet (AlexNet "PCA lighting").
_PCA_VALUES = (0.2175, 0.0188, 0.0045)
_PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
_GREY = (0.299, 0.587, 0.114)


@overload
def compose(*operations: Operation) -> Operation: ...
@overload
def compose(*operations: Augment) -> Augment: ...
def compose(*operations: Augment) -> Augment:
    """Apply operations in order, with one generator; numbers can be drawn beforehand if those of each can be."""
    if all(isinstance(operation, Operation) for operation in operations):
        return _chain(operations)  # type: ignore[arg-type]

    def augment(x: Tensor, generator: Generator) -> Tensor:
        for operation in operations:
            x = operation(x, generator)
        return x

    return augment


def _chain(operations: Sequence[Operation]) -> Operation:
    def draw(shape: Shape, generator: Generator) -> tuple[Any, ...]:
        numbers = []
        for operation in operations:
            numbers.append(operation.draw(shape, generator))
            shape = operation.shape(shape)
        return tuple(numbers)

    def apply(x: Tensor, *numbers: Any) -> Tensor:
        for operation, drawn in zip(operations, numbers, strict=True):
            x = operation.apply(x, *drawn)
        return x

    sides = [operation.side for operation in operations if operation.side]
    each = all(operation.per_image for operation in operations)
    return Operation(draw, apply, side=sides[-1] if sides else None, per_image=each)


def normalise(mean: Sequence[float], std: Sequence[float]) -> Operation:
    """(x − mean)/std per channel; as an operation, so that it can stand at any place of a chain."""
    factors = tuple(1 / s for s in std)
    summands = tuple(-m / s for m, s in zip(mean, std, strict=True))

    def apply(x: Tensor) -> Tensor:
        return torch.addcmul(per_channel(summands, x), x, per_channel(factors, x))

    return Operation(lambda shape, generator: (), apply, per_image=True)


def per_channel(values: tuple[float, ...], x: Tensor) -> Tensor:
    """Return one value for each channel as ``[1, C, 1, 1]``, of the type and on the device of ``x``."""
    return _constant(values, x.dtype, x.device).view(1, -1, 1, 1)


@lru_cache(maxsize=64)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # gradients may be asked for through what a test has made
        return torch.tensor(values, dtype=dtype, device=device)


def uniform(size: Sequence[int], generator: Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """U(low, high) on the CPU."""
    return torch.rand(tuple(size), generator=generator) * (high - low) + low


def take_rows_and_columns(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Output pixel (i, j) of image b is its pixel (rows[b, i], columns[b, j]); indices ``[B, H']``, ``[B, W']``."""
    rows, columns = rows.to(x.device), columns.to(x.device)
    sample = torch.arange(x.shape[0], device=x.device)[:, None, None]
    # Advanced indices around a slice put the indexed dimensions first: [B, H', W', C], a channels-last batch.
    return x[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flip(x: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the images where ``chosen`` (bool ``[B]``) is true left-right."""
    return torch.where(chosen.to(x.device)[:, None, None, None], x.flip(-1), x)


def _draw_flip(shape: Shape, generator: Generator, p: float = 0.5) -> tuple[Tensor]:
    return (torch.rand(shape[0], generator=generator) < p,)


random_flip = Operation(_draw_flip, flip, per_image=True)
"""Mirror each image left-right with probability ``p`` (0.5)."""


def shift_with_zeros(x: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Output pixel (i, j) is input pixel (i+dy, j+dx), or 0 outside; shifts are integers ``[B]`` or ``[1]``."""
    b, _, h, w = x.shape
    rows = torch.arange(h, device=dy.device) + dy.expand(b)[:, None]
    columns = torch.arange(w, device=dx.device) + dx.expand(b)[:, None]
    # One border pixel of zeros on each side receives every index that falls outside.
    return take_rows_and_columns(F.pad(x, (1, 1, 1, 1)), rows.clamp(-1, h) + 1, columns.clamp(-1, w) + 1)


def _draw_crop(shape: Shape, generator: Generator, padding: int = 4) -> tuple[Tensor, ...]:
    return tuple(torch.randint(-padding, padding + 1, (2, shape[0]), generator=generator))


random_crop = Operation(_draw_crop, shift_with_zeros, per_image=True)
"""Zero-pad by ``padding`` (4) and crop back to the size at a random place per image (torchvision RandomCrop)."""


def _draw_shuffle(shape: Shape, generator: Generator, factor: int) -> tuple[Tensor, ...]:
    if factor == 1:
        return ()
    columns = _shuffled_strips(shape[0], shape[3], factor, generator)
    return _shuffled_strips(shape[0], shape[2], factor, generator), columns


def _shuffled_strips(batch: int, side: int, factor: int, generator: Generator) -> Tensor:
    strip = (torch.arange(side) // (side // factor)).clamp(max=factor - 1)
    place = torch.rand(batch, factor, generator=generator).argsort(1)  # new place of each strip
    return place[:, strip].argsort(dim=1, stable=True)


patch_shuffle = Operation(
    _draw_shuffle, lambda x, *order: take_rows_and_columns(x, *order) if order else x, per_image=True
)
"""Permute ``factor`` vertical strips, then ``factor`` horizontal strips of each image (RDED validation/utils.py).

Strips are ⌊W/factor⌋ wide, the last takes the remainder. For factor 2 only 4 of the 24 layouts are reachable.
"""


def _draw_colours(shape: Shape, generator: Generator, strength: float = 0.4) -> tuple[Tensor, Tensor]:
    order = torch.rand(shape[0], 3, generator=generator).argsort(1)
    return order, uniform((shape[0], 3), generator, -strength, strength)


def _change_colours(x: Tensor, order: Tensor, amounts: Tensor) -> Tensor:
    b, order, amounts = x.shape[0], order.to(x.device), amounts.to(x)
    for turn in range(3):
        kind = order[:, turn].view(b, 1, 1, 1)
        a = amounts[:, turn].view(b, 1, 1, 1)
        grey = (x * per_channel(_GREY, x)).sum(1, keepdim=True)
        target = torch.where(kind == 2, grey, grey.mean((2, 3), keepdim=True) * (kind == 1))
        x = x + a * (target - x)
    return x


jitter_colours = Operation(_draw_colours, _change_colours, per_image=True)
"""Brightness, contrast and saturation in random order per image, without clamping (IDC, MinimaxDiffusion).

Each is x + a·(g − x) with its own a ~ U(−``strength``, ``strength``) (0.4); g is 0, the mean of the grey image, the
grey image. Expects RGB in [0, 1].
"""


def _draw_lighting(shape: Shape, generator: Generator, std: float = 0.1) -> tuple[Tensor]:
    alpha = torch.randn(shape[0], 3, generator=generator) * std
    return ((alpha * torch.tensor(_PCA_VALUES)) @ torch.tensor(_PCA_VECTORS).T,)


pca_lighting = Operation(_draw_lighting, lambda x, shift: x + shift.to(x)[:, :, None, None], per_image=True)
"""Add Σ_j V[i,j]·α_j·w_j to channel i, α ~ N(0, ``std``) (0.1) per image (AlexNet).

Expects RGB in [0, 1]; no clamping.
"""


def _draw_boxes(
    shape: Shape,
    generator: Generator,
    size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    antialias: bool = True,
) -> tuple[Any, ...]:
    b, _, h, w = shape
    if scale == (1.0, 1.0) and h == w:
        if size == h:
            return ()
        corner, side = torch.zeros(b, dtype=torch.long), torch.full((b,), h)
        return corner, corner, side, side, size, antialias
    return *draw_resized_crops(b, h, w, generator, scale, ratio), size, antialias


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


random_resized_crop = Operation(_draw_boxes, lambda x, *box: resized_crop(x, *box) if box else x, per_image=True)
"""torchvision's RandomResizedCrop with its own box per image; bilinear; ``[B, C, H, W] -> [B, C, size, size]``.

Its options are ``size``, ``scale``, ``ratio`` and ``antialias``. Scale (1, 1) on square images always keeps the whole
image, so nothing is drawn and, at equal size, nothing done.
"""


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
    there = {"dtype": torch.float64, "device": start.device}
    out = torch.arange(size, **there)[None, :, None]
    pixel = torch.arange(side, **there)[None, None, :] - start.double()[:, None, None]
    centre = (out + 0.5) * step - 0.5
    # The crop's border pixels stand in for everything outside it.
    centre = torch.where(support > 1, centre, centre.clamp(min=0).minimum(length.double()[:, None, None] - 1))
    weights = (1 - (pixel - centre).abs() / support).clamp(min=0)
    weights = weights * ((pixel >= 0) & (pixel < length[:, None, None]))
    return (weights / weights.sum(2, keepdim=True)).float()
