"""Two sets of features: precision, recall, density and coverage by neighbours; Fréchet and kernel distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features = NDArray[np.floating]

#: Real images that the kernel distance is measured from, evenly spaced, and rows of a block of its kernel.
COMPARED, BLOCK = 5000, 1000


class Neighbours(NamedTuple):
    """How a set lies among real images.

    Attributes:
        figures: those of :func:`neighbours`.
        nearest: [real], index of the image of the set that is nearest to each real one.
    """

    figures: dict[str, float]
    nearest: NDArray[np.int64]


def radii(features: Features, k: int) -> NDArray[np.float64]:
    """Return the distance [n] of each row to its k-th nearest other row; n > k."""
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features).kneighbors()
    furthest: NDArray[np.float64] = distances[:, -1]
    return furthest


def neighbours(real: Features, made: Features, real_radii: NDArray[np.floating], k: int) -> Neighbours:
    """Compare a set with real images (Naeem et al. 2020; precision and recall: Kynkäänniemi et al. 2019).

    A ball around each image reaches to its k-th nearest neighbour in its own set. ``precision``: share of the set
    within some ball of a real image; ``density``: how many such balls hold one of the set, over k; ``coverage``: share
    of real images whose ball holds one of the set; ``recall``: share of real images within some ball of the set, left
    out where the set has no k neighbours to draw balls by.

    Args:
        real: [N, d].
        made: [n, d], the set.
        real_radii: [N], :func:`radii` of the real ones.
        k: neighbours.
    """
    from sklearn.metrics import pairwise_distances_chunked

    own = radii(made, k) if len(made) > k else None
    holding = np.zeros(len(made), np.int64)
    nearest, covered, recalled = [], 0, 0
    start = 0
    for block in pairwise_distances_chunked(real, made):
        within = block < real_radii[start : start + len(block), None]
        holding += within.sum(axis=0)
        covered += int(within.any(axis=1).sum())
        nearest.append(block.argmin(axis=1))
        recalled += 0 if own is None else int((block < own).any(axis=1).sum())
        start += len(block)
    figures = {
        "precision": float((holding > 0).mean()),
        "density": float(holding.mean() / k),
        "coverage": covered / len(real),
        **({} if own is None else {"recall": recalled / len(real)}),
    }
    return Neighbours(figures, np.concatenate(nearest))


def frechet(real: Features, made: Features) -> float:
    """Return the Fréchet distance of the normal distributions with means and covariances of two sets (FID's formula).

    ‖μ − μ'‖² + tr Σ + tr Σ' − 2 tr (ΣΣ')^½. With the centred rows A and B over the root of their number less one, the
    last trace is the sum of the singular values of ABᵀ, which needs no d × d matrix and no root of a singular one.

    Args:
        real, made: [n, d], n ≥ 2; with few rows it is far above that of the distributions they were drawn from.
    """
    means = real.mean(axis=0, dtype=np.float64) - made.mean(axis=0, dtype=np.float64)
    first, second = _spread(real), _spread(made)
    common = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(means @ means + np.square(first).sum() + np.square(second).sum() - 2 * common)


def _spread(features: Features) -> NDArray[np.float64]:
    """Return rows [≤ d, d] whose outer products add up to the covariance."""
    rows = np.asarray(features, np.float64)
    rows = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows


def kernel_distance(real: Features, made: Features) -> float:
    """Return the squared maximum mean discrepancy under the kernel (x·y/d + 1)³ (KID, Bińkowski et al. 2018).

    Its mean over draws does not depend on how many rows there are, unlike the Fréchet distance; for two draws of one
    distribution it is 0, so single values may be negative. Rows that are balanced by class are no such draw.

    Args:
        real, made: [n, d], n ≥ 2; of the real ones at most 5,000, evenly spaced, are compared.
    """
    real = real[np.linspace(0, len(real) - 1, min(COMPARED, len(real))).astype(int)]
    return _among(real) + _among(made) - 2 * _kernel_sum(real, made) / (len(real) * len(made))


def _among(rows: Features) -> float:
    """Return the mean of the kernel over pairs of different rows."""
    own = float(((np.square(rows, dtype=np.float64).sum(axis=1) / rows.shape[1] + 1) ** 3).sum())
    return (_kernel_sum(rows, rows) - own) / (len(rows) * (len(rows) - 1))


def _kernel_sum(first: Features, second: Features) -> float:
    blocks = (first[start : start + BLOCK] for start in range(0, len(first), BLOCK))
    return sum(float((((block @ second.T).astype(np.float64) / first.shape[1] + 1) ** 3).sum()) for block in blocks)
