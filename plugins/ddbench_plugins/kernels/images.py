"""Images as the rows of a kernel's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench import Context


def rows(images: Tensor, ctx: Context, normalisation: str = "dataset") -> Tensor:
    """Return images as of :func:`normalised` as rows [n, d]."""
    return normalised(images, ctx, normalisation).flatten(1)


def normalised(images: Tensor, ctx: Context, normalisation: str = "dataset") -> Tensor:
    """Return images [n, C, S, S], uint8 or in [0, 1] scale, normalised by these constants: float64.

    Whitened ones stay as they are (normalisation ``zca …``).
    """
    import torch

    from ddbench_plugins.training.augment import normalise
    from ddbench_plugins.training.normalisation import constants
    from ddbench_plugins.training.predict import as_float

    scaled = as_float(images.to(ctx.machine.device)).double()
    return normalise(*constants(ctx.dataset, normalisation))(scaled, torch.Generator())
