"""Corruptions of CIFAR-10-C that need no further package, with its five severities (Hendrycks and Dietterich 2019).

Severities are those of ``make_cifar_c.py``, for 32 pixels; the blur's width grows with the side.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ddbench_plugins.training.pixels import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

#: Values of severities 1 to 5.
SEVERITIES = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg": (80, 65, 58, 50, 40),
}


def corrupted(images: Tensor, name: str, severity: int, generator: Generator) -> Tensor:
    """Return corrupted copies of images uint8 [n, C, S, S].

    Args:
        images: on the CPU.
        name: one of :data:`SEVERITIES`.
        severity: 1 to 5.
        generator: of what is random.
    """
    value = SEVERITIES[name][severity - 1]
    if name == "pixelate":
        return _one_by_one(images, lambda image: _pixelated(image, value))
    if name == "jpeg":
        return _one_by_one(images, lambda image: _compressed(image, int(value)))
    x = images.float() / 255
    match name:
        case "gaussian_noise":
            x = x + value * torch.randn(x.shape, generator=generator)
        case "shot_noise":
            x = torch.poisson(x * value, generator) / value
        case "impulse_noise":
            drawn = torch.rand(x.shape, generator=generator)
            x = torch.where(drawn < value, (drawn < value / 2).float(), x)
        case "gaussian_blur":
            x = _blurred(x, value * x.shape[-1] / 32)
        case "brightness":
            x = _brightened(x, value)
        case "contrast":
            means = x.mean((2, 3), keepdim=True)
            x = (x - means) * value + means
    return as_bytes(x * 255)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    from torchvision.transforms.v2.functional import gaussian_blur

    size = min(2 * int(4 * sigma + 0.5) + 1, 2 * x.shape[-1] - 1)
    return gaussian_blur(x, [size, size], [sigma, sigma])


def _brightened(x: Tensor, value: float) -> Tensor:
    """Add to the V of HSV: hue and saturation stay, so that all channels grow in proportion."""
    bright = x.amax(1, keepdim=True)
    raised = (bright + value).clamp(max=1)
    return torch.where(bright > 0, x * raised / bright.clamp(min=1e-12), raised)


def _pixelated(image: Image.Image, value: float) -> Image.Image:
    small = max(1, int(image.width * value))
    return image.resize((small, small), Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def _one_by_one(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    rows = images.permute(0, 2, 3, 1).numpy()
    changed = [np.asarray(change(Image.fromarray(row.squeeze(-1) if row.shape[-1] == 1 else row))) for row in rows]
    stacked = np.stack(changed).reshape(rows.shape)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
