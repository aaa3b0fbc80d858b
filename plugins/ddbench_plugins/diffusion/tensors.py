"""Images between uint8 arrays and the tensors diffusion models take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ddbench_plugins.training.pixels import as_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence


def resized(images: Sequence[np.ndarray] | np.ndarray, resolution: int, resample: str = "bilinear") -> np.ndarray:
    """RGB uint8 images [N, resolution, resolution, 3] of images [H, W, 1 or 3] that may differ in size.

    The aspect ratio is not kept, as in the released D4M and VLCP code (``Resize((size, size))``). Grey images are
    repeated over the channels.
    """
    from PIL import Image

    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[resample]
    out = np.empty((len(images), resolution, resolution, 3), np.uint8)
    for index, image in enumerate(images):
        checked = _rgb(image)
        if checked.shape[:2] != (resolution, resolution):
            checked = np.asarray(Image.fromarray(checked).resize((resolution, resolution), method))
        out[index] = checked
    return out


def centre_cropped(images: Sequence[np.ndarray] | np.ndarray, resolution: int) -> np.ndarray:
    """RGB uint8 [N, resolution, resolution, 3]: shorter side to ``resolution`` (bilinear), then the centre square."""
    from PIL import Image

    out = np.empty((len(images), resolution, resolution, 3), np.uint8)
    for index, image in enumerate(images):
        checked = _rgb(image)
        height, width = checked.shape[:2]
        if (height, width) != (resolution, resolution):
            scale = resolution / min(height, width)
            size = (max(resolution, int(width * scale)), max(resolution, int(height * scale)))
            scaled = np.asarray(Image.fromarray(checked).resize(size, Image.Resampling.BILINEAR))
            top, left = (size[1] - resolution) // 2, (size[0] - resolution) // 2
            checked = scaled[top : top + resolution, left : left + resolution]
        out[index] = checked
    return out


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise ValueError(f"images must be uint8 [H, W, 1 or 3], not {image.dtype} {list(image.shape)}")
    return image.repeat(3, axis=2) if image.shape[2] == 1 else image


def to_model(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_images(values: torch.Tensor) -> np.ndarray:
    """Float [N, 3, H, W] in [-1, 1] (clipped) to uint8 [N, H, W, 3]."""
    whole = as_bytes(values.float().add(1).mul(127.5).round(), "decoded images")
    return np.asarray(whole.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def rows_of(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """``values[chosen]`` [m, ...] of values [n, ...], for rows chosen more than once while gradients are taken.

    The backward pass of indexing adds the gradients of a row in the order in which threads come to them, so that no two
    trainings end the same; a lookup adds them in a fixed order, on GPUs as well.
    """
    return torch.nn.functional.embedding(chosen, values.flatten(1)).unflatten(1, values.shape[1:])
