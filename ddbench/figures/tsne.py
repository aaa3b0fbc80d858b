"""t-SNE of one class: images with the prototypes found before and after outlier removal (Zou et al. 2025, Fig. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import UsageError
from ddbench.figures.base import COLOURS, WIDTH, figure, wrapped
from ddbench.plugin.embedding import Embedding

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Points at most, components kept before t-SNE, perplexity at most.
MOST_POINTS, COMPONENTS, PERPLEXITY = 1500, 50, 30.0
GREY, RED = "#9aa0a8", "#c0392b"


def draw(content: Embedding, title: str, seed: int = 0) -> Any:
    """Return a matplotlib figure: all images with the outliers marked, then the inliers by cluster, with prototypes.

    Both panels share one t-SNE of images and prototypes, so that positions can be compared. A method that removes
    nothing gets one panel.

    Raises:
        UsageError: fewer than five images.
    """
    rows = _chosen(len(content.points))
    inliers, clusters = content.inliers[rows], content.clusters[rows]
    centres = [content.centres] + ([content.before[1]] if content.before else [])
    places = positions([content.points[rows], *centres], seed)
    points, after = places[0], places[1]
    panels = 2 if content.before else 1
    drawn, axes = figure(panels)
    if content.before:
        order = _matched(content.before[1], content.centres)
        _panel(axes[0], points, order[content.before[0][rows]], np.ones(len(rows), bool), places[2][np.argsort(order)])
        out = points[~inliers]
        axes[0].scatter(*out.T, s=34, marker="x", linewidths=1.2, color=RED, label=f"outliers ({len(out)})", zorder=3)
        axes[0].set_title(f"before: all {len(rows)} images", fontsize=11)
        axes[0].legend(loc="best", fontsize=8, framealpha=0.85)
    _panel(axes[-1], points, clusters, inliers, after)
    kept = f"after outlier removal: {int(inliers.sum())} images" if content.before else f"{len(rows)} images"
    axes[-1].set_title(kept, fontsize=11)
    axes[-1].legend(loc="best", fontsize=8, framealpha=0.85)
    shown = f", {len(rows)} of {len(content.points)} images drawn" if len(rows) < len(content.points) else ""
    drawn.suptitle(wrapped(f"{title} (t-SNE of {content.kind}{shown})", panels * WIDTH, 12), fontsize=12)
    for panel in axes:
        panel.set_xlim(*_limits([place[:, 0] for place in places]))
        panel.set_ylim(*_limits([place[:, 1] for place in places]))
        panel.set_xticks([])
        panel.set_yticks([])
    return drawn


def positions(groups: list[NDArray[Any]], seed: int) -> list[NDArray[np.float64]]:
    """Return two-dimensional positions [n, 2] of every group of points [n, ...], from one joint t-SNE.

    Raises:
        UsageError: fewer than five points.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    flat = np.concatenate([np.asarray(group, np.float64).reshape(len(group), -1) for group in groups])
    if len(flat) < 5:
        raise UsageError(f"{len(flat)} points are too few for a t-SNE.", hint="Choose another class or data set.")
    count = min(COMPONENTS, *flat.shape)
    reduced = PCA(count, random_state=seed).fit_transform(flat) if flat.shape[1] > COMPONENTS else flat
    perplexity = min(PERPLEXITY, (len(flat) - 1) / 3)
    embedded = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    ends = np.cumsum([len(group) for group in groups])[:-1]
    return [np.asarray(part, np.float64) for part in np.split(embedded, ends)]


def _panel(axes: Any, points: Any, clusters: Any, shown: Any, centres: Any) -> None:
    colours = [COLOURS[cluster % len(COLOURS)] if cluster >= 0 else GREY for cluster in clusters[shown]]
    axes.scatter(*points[shown].T, s=16, color=colours, alpha=0.65, linewidths=0)
    edge = [COLOURS[number % len(COLOURS)] for number in range(len(centres))]
    star = {"marker": "*", "edgecolors": "black", "linewidths": 0.8}
    axes.scatter(*centres.T, s=170, color=edge, zorder=4, **star)
    axes.scatter([], [], s=110, color="white", label=f"prototypes ({len(centres)})", **star)


def _matched(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.int64]:
    """Return, for each prototype before, the number of its counterpart after: the pairing of least distance."""
    from scipy.optimize import linear_sum_assignment

    flat = [np.asarray(points, np.float64).reshape(len(points), -1) for points in (before, after)]
    distances = ((flat[0][:, None] - flat[1][None]) ** 2).sum(-1)
    return np.asarray(linear_sum_assignment(distances)[1], np.int64)


def _limits(values: list[NDArray[np.float64]]) -> tuple[float, float]:
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    margin = 0.06 * (high - low or 1)
    return float(low - margin), float(high + margin)


def _chosen(count: int) -> NDArray[np.int64]:
    """Return the positions of at most :data:`MOST_POINTS` points, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(np.int64))
