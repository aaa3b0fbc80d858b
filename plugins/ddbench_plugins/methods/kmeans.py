"""k-means in pixel space."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

import ddbench
from ddbench_plugins.methods.selection import ipc_of, select
from ddbench_plugins.training.pixels import as_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


class KMeans(ddbench.Distiller):
    """k-means over the pixels of each class, with ``ctx.ipc`` clusters (Wang et al. 2018, ``utils/baselines.py``).

    The means are the default because they are the published baseline and the stronger one: judged by a small MLP on
    a held-out part of the training split, they beat the nearest real images on digits and CIFAR-10 at IPC 1 and 10.
    """

    class Options(ddbench.Options):
        """Options of k-means."""

        images: Literal["centroid", "nearest"] = Field(
            "centroid",
            description="'centroid' returns the cluster means, the published baseline; 'nearest' the real image nearest"
            " to each.",
        )
        restarts: int = Field(1, ge=1, description="k-means++ starts, of which the best is kept.")

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` images per class."""
        dataset, ipc, options = ctx.dataset, ipc_of(ctx), ctx.options

        def centres_of(label: int, members: NDArray[np.int64]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
            images = dataset.train.images.batch(members.tolist(), dataset.image_size)
            pixels = images.reshape(len(images), -1).astype(np.float32) / 255
            return pixels, cluster(pixels, ipc, ctx.seed("k-means", label), options.restarts)

        if options.images == "nearest":
            return select(ctx, lambda label, members: nearest_distinct(*centres_of(label, members)))
        shape = (ipc, dataset.image_size, dataset.image_size, dataset.channels)
        means = []
        with ctx.progress("clustering", dataset.num_classes) as advance:
            for label in range(dataset.num_classes):
                _, centres = centres_of(label, dataset.train.of_class(label))
                means.append(as_bytes(np.rint(centres.clip(0, 1) * 255)).reshape(shape))
                advance(label + 1)
        return ddbench.DistilledSet(np.concatenate(means), np.repeat(np.arange(dataset.num_classes), ipc))


def cluster(pixels: NDArray[np.floating], count: int, seed: int, restarts: int) -> NDArray[np.floating]:
    """Return k-means centres [count, d] of [n, d], largest cluster first."""
    from sklearn.cluster import KMeans as Clustering
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # With three threads or more, centres would be added up in the order in which these end.
    with threadpool_limits(1), warnings.catch_warnings():
        # Fewer different images than clusters is fine: centres then coincide.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = Clustering(count, n_init=restarts, random_state=seed).fit(pixels)
    sizes = np.bincount(fitted.labels_, minlength=count)
    centres: NDArray[np.floating] = fitted.cluster_centers_[np.argsort(-sizes, kind="stable")]
    return centres


def nearest_distinct(pixels: NDArray[np.floating], centres: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return for each centre in turn the index of the nearest sample that no earlier centre has taken."""
    free = np.ones(len(pixels), bool)
    chosen = []
    for centre in centres:
        distance = np.square(pixels - centre).sum(axis=1)
        best = int(np.argmin(np.where(free, distance, np.inf)))
        chosen.append(best)
        free[best] = False
    return np.array(chosen, np.int64)
