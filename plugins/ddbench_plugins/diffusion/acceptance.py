"""Checks of a diffusion model before its images are used: recognition, copies, and whether the text matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


def recognition(
    images: np.ndarray, labels: np.ndarray, classify: Callable[[np.ndarray], np.ndarray], classes: int
) -> dict[str, object]:
    """How often a classifier trained on real images names a sample's intended class.

    ``images`` uint8 [N, H, W, C], ``labels`` [N]; ``classify`` maps images to predicted labels [N].
    Returns ``rate`` in [0, 1], ``per_class`` (nan for a class without samples) and the ``count``.
    """
    if len(images) == 0:
        raise ValueError("recognition needs at least one sample")
    hits = np.asarray(classify(images)) == np.asarray(labels)
    per_class = [float(hits[labels == c].mean()) if (labels == c).any() else float("nan") for c in range(classes)]
    return {"rate": float(hits.mean()), "per_class": per_class, "count": len(hits)}


def nearest_distances(images: np.ndarray, reference: np.ndarray, chunk: int = 256) -> np.ndarray:
    """Root-mean-square pixel distance [N], in [0, 1] units, of each image to its nearest reference image.

    Both uint8, [N, H, W, C] and [M, H, W, C].
    """
    if images.shape[1:] != reference.shape[1:]:
        raise ValueError(f"images {images.shape[1:]} and reference {reference.shape[1:]} differ in size")
    flat = reference.reshape(len(reference), -1).astype(np.float32) / 255
    norms = (flat**2).sum(1)
    found = []
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].reshape(-1, flat.shape[1]).astype(np.float32) / 255
        squared = (part**2).sum(1)[:, None] + norms[None] - 2 * part @ flat.T
        found.append(np.sqrt(np.maximum(squared.min(1), 0) / flat.shape[1]))
    return np.concatenate(found)


def copy_check(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """Are samples nearer to training images than unseen real images are?

    Medians of :func:`nearest_distances` of samples and of held-out real images to the training images, their ratio
    (well below 1 means copies), and the share of samples nearer than the nearest 1 % of the held-out images.
    """
    ours, theirs = nearest_distances(samples, train), nearest_distances(held_out, train)
    return {
        "sample_median": float(np.median(ours)),
        "held_out_median": float(np.median(theirs)),
        "ratio": float(np.median(ours) / max(float(np.median(theirs)), 1e-12)),
        "suspect_share": float((ours < np.quantile(theirs, 0.01)).mean()),
    }


def prompt_swap(
    plain: np.ndarray,
    swapped: np.ndarray,
    labels: np.ndarray,
    other_labels: np.ndarray,
    classify: Callable[[np.ndarray], np.ndarray],
) -> dict[str, float]:
    """Does another class's prompt, with the same prototype and noise, move recognition to that class?

    ``plain`` are samples of prototypes of ``labels`` with prompts of ``labels``; ``swapped`` the same prototypes and
    noise with prompts of ``other_labels``. ``moved`` is the share of swapped samples recognised as the prompt's class,
    ``stayed`` as the prototype's class, and ``reverse`` the share of plain samples recognised as the other class.
    """
    if (np.asarray(labels) == np.asarray(other_labels)).any():
        raise ValueError("the swapped prompt must name another class")
    before, after = np.asarray(classify(plain)), np.asarray(classify(swapped))
    return {
        "moved": float((after == other_labels).mean()),
        "stayed": float((after == labels).mean()),
        "reverse": float((before == other_labels).mean()),
    }
