"""Numbers of models to the bytes of stored images, as they are or as released code saves them; NaN never passes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ddbench import DivergedError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Values = TypeVar("Values", bound=Any)
JPEG_QUALITY = 75  # Pillow's default, which RDED and SRe2L rely on


def finite(values: Values, what: str = "the images") -> Values:
    """Return an array or a tensor as it is.

    Raises:
        DivergedError: there is NaN or infinity in it, which a cast would turn into black pixels.
    """
    good = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()
    if not bool(good.all()):
        raise DivergedError(
            f"A model has diverged: in {what}, {int((~good).sum())} numbers are NaN or infinite.",
            hint="Half precision overflows in some autoencoders: try --precision fp32. Otherwise its weights are"
            " damaged, or it was trained at too high a rate.",
        )
    return values


def as_bytes(values: Values, what: str = "the images") -> Values:
    """Cast an array or a tensor of pixels from 0 to 255 to uint8: clipped, then cut down to whole numbers.

    Every cast of pixels goes through here.

    Raises:
        DivergedError: a pixel is NaN or infinite.
    """
    array = isinstance(finite(values, what), np.ndarray)
    whole: Values = values.clip(0, 255).astype(np.uint8) if array else values.clamp(0, 255).byte()
    return whole


def to_bytes(images: Tensor, *, truncate: bool) -> NDArray[np.uint8]:
    """Float [n, C, S, S] in [0, 1] to uint8 [n, S, S, C], rounded or (as the released code) cut down."""
    scaled = images.clamp(0, 1) * 255
    whole = as_bytes(scaled if truncate else scaled.round())
    return np.ascontiguousarray(whole.permute(0, 2, 3, 1).numpy())


def through_jpeg(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compress and decompress uint8 [n, S, S, C] as Pillow writes JPEG by default."""
    from PIL import Image

    decoded = np.empty_like(images)
    for index, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=JPEG_QUALITY)
        decoded[index] = np.asarray(Image.open(file)).reshape(image.shape)
    return decoded
