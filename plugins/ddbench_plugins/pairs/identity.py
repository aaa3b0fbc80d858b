"""Which weights encode images and texts: what keys and records hold in place of names of folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench_plugins.pairs.encoders import image_identity, text_weights

if TYPE_CHECKING:
    from ddbench import Context
    from ddbench_plugins.pairs.options import PairOptions


def identity(ctx: Context, options: PairOptions) -> dict[str, str]:
    """Return the digest of each encoder's weights."""
    return {"image_encoder": image_identity(ctx, options), "text_encoder": text_weights(ctx, options.text_encoder)}
