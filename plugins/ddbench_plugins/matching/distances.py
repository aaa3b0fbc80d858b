"""Distances between two lists of gradients (Zhao et al. 2021, utils.py; Kim et al. 2022, condense.py).

Each takes the tensors of one side and of the other, layer by layer, and returns a number that is differentiable in
both. Which layers are compared is the caller's choice, but ``rows`` never counts vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

Metric = Literal["rows", "mse", "cos", "l1", "l1_mean"]
EPSILON = 1e-6


def distance(metric: Metric, real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Return the distance of two lists of tensors of the same shapes: a scalar, in float32 at least."""
    pairs = [(_wide(a), _wide(b)) for a, b in zip(real, synthetic, strict=True)]
    return METRICS[metric](pairs)


def rows(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Σ over layers and output units of 1 − cosine ("ours" in DatasetCondensation, "cos" in IDC).

    The row of an output unit is everything behind the first dimension, so a scale of the whole layer does not count.
    Vectors (biases, scales of norms) contribute nothing.
    """
    distances = [_rows(a.flatten(1), b.flatten(1)) for a, b in pairs if a.ndim > 1]
    return torch.stack(distances).sum()


def mse(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of squared differences over everything; not a mean, in spite of its name."""
    return torch.stack([(a - b).square().sum() for a, b in pairs]).sum()


def cos(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """1 − cosine of everything as one vector."""
    a, b = (torch.cat([tensor.flatten() for tensor in side]) for side in zip(*pairs, strict=True))
    return _rows(a[None], b[None])


def l1(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of absolute differences over everything."""
    return torch.stack([(a - b).abs().sum() for a, b in pairs]).sum()


def l1_mean(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean absolute difference of each output unit, summed over units and layers."""
    return torch.stack([(a - b).abs().reshape(len(a), -1).mean(1).sum() for a, b in pairs]).sum()


def _rows(a: Tensor, b: Tensor) -> Tensor:
    return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + EPSILON)).sum()


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


METRICS: dict[Metric, Callable[[Sequence[tuple[Tensor, Tensor]]], Tensor]] = {
    "rows": rows,
    "mse": mse,
    "cos": cos,
    "l1": l1,
    "l1_mean": l1_mean,
}
