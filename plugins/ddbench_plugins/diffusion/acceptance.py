"""Acceptance of the images of a small model: recognised, not copied, and led by the text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench_plugins.diffusion.synthesis import grey, resized

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ddbench import Context
    from ddbench_plugins.diffusion.synthesis import Prototypes


#: Real images compared at most when nearest training images are looked for.
MOST_HELD_OUT = 1000


def acceptance(
    ctx: Context,
    prototypes: Prototypes,
    images: NDArray[np.uint8],
    plain: NDArray[np.uint8],
    swapped: NDArray[np.uint8],
) -> dict[str, Any]:
    """Return the figures a reader needs before trusting images of a model trained on the data set.

    A network trained on the real training images recognises the distilled images (``recognition``), and images made
    from the same prototypes and noise with the prompts of the next class (``prompt_swap``: ``moved`` are recognised as
    the prompt's class; ``reverse`` is how often images with their own prompts are). ``nearest`` compares the distance
    to the nearest training image with that of real test images; nothing is chosen by it.

    Args:
        ctx: the run.
        prototypes: class-major.
        images: of all prototypes, uint8 [n, S, S, C].
        plain, swapped: of those that are compared, with their own prompts and with those of the next class.
    """
    from ddbench_plugins.teachers.observers import get_teacher

    data = ctx.dataset
    teacher = get_teacher(ctx, ctx.options.acceptance_network, floor=False)
    labels = prototypes.labels[spread(prototypes.labels, data.num_classes, ctx.options.acceptance_images)]
    other = (labels + 1) % data.num_classes
    return {
        "teacher": teacher.describe(),
        "recognition": recognition(images, prototypes.labels, teacher.predict, data.num_classes),
        "prompt_swap": prompt_swap(plain, swapped, labels, other, teacher.predict),
        "nearest": nearest(ctx, images),
    }


def nearest(ctx: Context, images: NDArray[np.uint8]) -> dict[str, float]:
    """Compare distances to the nearest training image: of distilled images [n, S, S, C] and of test images.

    Images larger than the data set's are compared at its size: they hold no more, and training sets scaled up may not
    fit into memory.
    """

    data, size = ctx.dataset, min(images.shape[1], ctx.dataset.image_size)
    images = as_data(resized(images.repeat(3 // data.channels, axis=-1), size), data.channels)
    train, _ = data.arrays("train", size)
    chosen = ctx.rng("vlcp nearest").permutation(len(data.test))[:MOST_HELD_OUT]
    return copy_check(images, train, data.test.images.batch(np.sort(chosen).tolist(), size))


def spread(labels: NDArray[np.int64], classes: int, most: int) -> NDArray[np.int64]:
    """Return the positions of the first prototypes of each class, equally many, at most ``most`` but one per class."""
    count = max(1, most // classes)
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(classes)])


def next_class(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return, for each prototype (class-major, equally many), the position of its counterpart in the next class."""
    ipc = len(labels) // classes
    return (np.arange(len(labels)) + ipc) % len(labels)


def compared(prototypes: Prototypes, classes: int, most: int, *, swapped: bool) -> Prototypes:
    """Return the prototypes that are compared, with their own prompts or with those of the next class."""
    rows = spread(prototypes.labels, classes, most)
    others = next_class(prototypes.labels, classes)
    prompts = tuple(prototypes.prompts[others[row] if swapped else row] for row in rows)
    return replace(prototypes, centres=prototypes.centres[rows], prompts=prompts, labels=prototypes.labels[rows])


def as_data(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return images of the model, which have three channels, with those of the data set."""
    return grey(images) if channels == 1 else images


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
    distances = []
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].reshape(-1, flat.shape[1]).astype(np.float32) / 255
        squared = (part**2).sum(1)[:, None] + norms[None] - 2 * part @ flat.T
        distances.append(np.sqrt(np.maximum(squared.min(1), 0) / flat.shape[1]))
    return np.concatenate(distances)


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
