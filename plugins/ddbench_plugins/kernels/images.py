"""Images as the rows of a kernel's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench import Context


def check_depth(depth: int, image_size: int) -> None:
    """Refuse images too small for random ConvNets of ``depth`` blocks.

    Raises:
        UsageError: no pixel would be left.
    """
    from ddbench import UsageError

    if image_size < 2**depth:
        raise UsageError(
            f"Random networks of {depth} blocks need images of at least {2**depth} pixels.",
            hint="Take fewer (-o method.depth=…, -o eval.depth=…).",
        )


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
