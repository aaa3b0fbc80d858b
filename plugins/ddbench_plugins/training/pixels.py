"""Tensors to the bytes of stored images, as they are or as released code saves them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

JPEG_QUALITY = 75  # Pillow's default, which RDED and SRe2L rely on


def to_bytes(images: Tensor, *, truncate: bool) -> NDArray[np.uint8]:
    """Float [n, C, S, S] in [0, 1] to uint8 [n, S, S, C], rounded or (as the released code) cut down."""
    scaled = images.clamp(0, 1) * 255
    whole = scaled if truncate else scaled.round()
    return np.ascontiguousarray(whole.to(torch.uint8).permute(0, 2, 3, 1).numpy())


def through_jpeg(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compress and decompress uint8 [n, S, S, C] as Pillow writes JPEG by default."""
    from PIL import Image

    found = np.empty_like(images)
    for index, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=JPEG_QUALITY)
        found[index] = np.asarray(Image.open(file)).reshape(image.shape)
    return found
