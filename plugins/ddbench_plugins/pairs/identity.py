"""Which weights encode images and texts: what keys and records hold in place of names of folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench_plugins.pairs.encoders import image_identity, pooling, published_weights, text_weights

if TYPE_CHECKING:
    from ddbench import Context
    from ddbench_plugins.pairs.options import PairOptions


def identity(ctx: Context, options: PairOptions) -> dict[str, str]:
    """Return the digest of each encoder's weights."""
    return {"image_encoder": image_identity(ctx, options), "text_encoder": text_weights(ctx, options.text_encoder)}


def about_texts(ctx: Context, options: PairOptions) -> str:
    """Return what ``holds`` of a method says of its texts: the encoder's weights, or its name if they are not here."""
    here = all(weights.here for weights in published_weights(options))
    return f"texts:{text_weights(ctx, options.text_encoder) if here else options.text_encoder}, {pooling(options)}"
