"""LOF and k-means on one class of Stable Diffusion's latents: ddbench's way against scikit-learn's defaults.

python benchmarks/prototypes.py [--images 1300] [--dimensions 16384] [--clusters 10] [--contamination 0.1]

Each side has a process of its own and all cores. Prints seconds, ratio, whether both keep the same images, the ratio of
the inertias and each side's peak memory. Importing is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("scikit-learn", "ddbench")
SEED = 0


def made_up(images: int, dimensions: int) -> np.ndarray:
    """Return float32 [n, 4, s, s] like latents of a class: overlapping groups, smooth maps, noise, a few strays."""
    rng = np.random.default_rng(SEED)
    themes = rng.standard_normal((12, dimensions), np.float32)
    smooth = rng.standard_normal((60, dimensions), np.float32)
    theme = themes[rng.integers(0, len(themes), images)]
    points = 0.35 * theme + rng.standard_normal((images, len(smooth)), np.float32) @ smooth * np.float32(0.12)
    spread = rng.gamma(8, 1 / 8, (images, 1)).astype(np.float32)
    points += spread * rng.standard_normal((images, dimensions), np.float32) * np.float32(0.5)
    side = round((dimensions // 4) ** 0.5)
    return points.reshape(images, 4, side, side) if 4 * side * side == dimensions else points


def by_scikit_learn(latents: np.ndarray, contamination: float, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions kept and their clusters, by the estimators as they are."""
    from sklearn.cluster import KMeans
    from sklearn.neighbors import LocalOutlierFactor

    flat = latents.reshape(len(latents), -1)
    kept = np.flatnonzero(LocalOutlierFactor(n_neighbors=10, contamination=contamination).fit_predict(flat) > 0)
    return kept, KMeans(n_clusters=clusters, n_init=10, random_state=SEED).fit(flat[kept]).labels_


def by_ddbench(latents: np.ndarray, contamination: float, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the same by the functions that VLCP uses."""
    from ddbench_plugins.diffusion.clustering import compact
    from ddbench_plugins.methods.vlcp.prototypes import cluster, inliers

    points = compact(latents)
    kept = inliers(points, contamination)
    return kept, cluster(latents[kept], clusters, SEED, "the class", points[kept]).members


def inertia(latents: np.ndarray, members: np.ndarray) -> float:
    """Return the sum of squared distances to the means of the clusters, in double precision."""
    flat = latents.reshape(len(latents), -1)
    groups = (flat[members == number].astype(np.float64) for number in np.unique(members))
    return float(sum(((group - group.mean(0)) ** 2).sum() for group in groups))


def measure(side: str, options: argparse.Namespace) -> None:
    """Run one side and print what it found as JSON."""
    import resource

    import scipy.linalg.lapack  # noqa: F401  (imports are not counted)
    import sklearn.cluster
    import sklearn.neighbors  # noqa: F401

    latents = made_up(options.images, options.dimensions)
    start = time.perf_counter()
    work = by_ddbench if side == "ddbench" else by_scikit_learn
    kept, members = work(latents, options.contamination, options.clusters)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {"seconds": seconds, "peak": peak, "kept": kept.tolist(), "inertia": inertia(latents[kept], members)}
    print(json.dumps(found))


def main() -> None:
    """Measure both sides in turn and print how they compare."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--images", type=int, default=1300)
    parser.add_argument("--dimensions", type=int, default=16384)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--contamination", type=float, default=0.1)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        measure(options.side, options)
        return
    found: dict[str, Any] = {}
    for side in SIDES:
        command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--side", side]
        found[side] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"{side:13} {found[side]['seconds']:7.2f} s   peak {found[side]['peak'] / 1e6:5.0f} MB")
    theirs, ours = (found[side] for side in SIDES)
    print(f"times faster  {theirs['seconds'] / ours['seconds']:7.2f}")
    print(f"same images kept: {'yes' if theirs['kept'] == ours['kept'] else 'NO'} ({len(ours['kept'])})")
    print(f"inertia, ours over theirs: {ours['inertia'] / theirs['inertia']:.6f}")


if __name__ == "__main__":
    main()
