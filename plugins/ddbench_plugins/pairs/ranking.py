"""How well images and captions find each other: recall among the first K, as it is expected where scores are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import DivergedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.floating[Any]]

FIRST = (1, 5, 10)


def recalls(scores: Floats, own: Bools) -> dict[str, float]:
    """Return ``tr@K`` (image to text), ``ir@K`` (text to image) and ``r_mean``, their mean, as fractions.

    Args:
        scores: [n_I, n_T], how alike image and caption are.
        own: bool [n_I, n_T], which captions are the image's.

    Raises:
        DivergedError: scores with NaN or infinity, which a count of better candidates would take for perfect.
    """
    if not np.isfinite(scores).all():
        raise DivergedError(
            "Similarities of images and captions are NaN or infinite.",
            hint="The branches have diverged: lower the learning rates.",
        )
    found = {
        f"{name}@{first}": float(np.mean(hits(rows, mine, first)))
        for name, rows, mine in (("tr", scores, own), ("ir", scores.T, own.T))
        for first in FIRST
    }
    return {**found, "r_mean": float(np.mean(list(found.values())))}


def hits(scores: Floats, own: Bools, first: int) -> NDArray[np.float64]:
    """Return, for each row, how probably one of its own candidates is among the first ones where equals are drawn.

    With b others above the best own candidate, t others equal to it and p own ones equal to it, that is 0 where
    k = first − b is not above 0, else 1 − C(t, k) / C(t + p, k). All scores being equal, it is chance.
    """
    from scipy.special import comb

    best = np.where(own, scores, -np.inf).max(1, keepdims=True)
    above = (scores > best).sum(1)
    others, mine = ((scores == best) & part for part in (~own, own))
    t, p = others.sum(1).astype(float), mine.sum(1).astype(float)
    k = np.maximum(first - above, 0).astype(float)
    missed = comb(t, k) / comb(t + p, np.minimum(k, t + p))  # the former is 0 where others cannot take all k places
    found: NDArray[np.float64] = 1 - missed
    return found


def alike(own: Bools, texts: Sequence[str]) -> Bools:
    """Return ``own`` [n_I, n_T] where a caption is the image's as well if it reads like one of its own."""
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    group = np.array([number[text] for text in texts])
    said = np.zeros((len(own), len(number)), bool)
    images, captions = np.nonzero(own)
    said[images, group[captions]] = True
    return said[:, group]


def class_hits(scores: Floats, images: NDArray[np.int64], texts: NDArray[np.int64]) -> dict[str, float]:
    """Return the shares of images, and of captions, whose first candidate is of their class; labels [n_I] and [n_T].

    What knowledge of the class alone gives, where captions name it: only recalls above are of single images.
    """
    same = images[:, None] == texts[None]
    found = {}
    for name, rows, right in (("tr", scores, same), ("ir", scores.T, same.T)):
        first = rows == rows.max(1, keepdims=True)
        found[f"{name}_class@1"] = float(((first & right).sum(1) / first.sum(1)).mean())
    return found
