"""Losses of a batch of pairs, from logits and the similarity that is wanted: both [n, n], images by texts.

Wu et al. 2023 (InfoNCE) and Xu et al. 2024 (the others; src/similarity_mining.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Loss = Callable[[Tensor, Tensor], Tensor]

EPSILON = 1e-6


def infonce(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of rows and of columns, with targets as they are: one-hot ones give the usual InfoNCE."""
    rows, columns = (-(wanted * logits.log_softmax(axis)).sum() / len(logits) for axis in (1, 0))
    return (rows + columns) / 2


def cwcl(logits: Tensor, wanted: Tensor) -> Tensor:
    """InfoNCE whose targets are divided by their sum."""
    rows, columns = (
        (-(wanted * logits.log_softmax(axis)).sum(axis) / (wanted.sum(axis) + EPSILON)).mean() for axis in (1, 0)
    )
    return (rows + columns) / 2


def kl(logits: Tensor, wanted: Tensor) -> Tensor:
    """Kullback–Leibler divergence of the softmax of ten times the targets, of rows and of columns."""
    rows, columns = (
        F.kl_div(logits.log_softmax(axis), (10 * wanted).softmax(axis), reduction="sum") / len(logits)
        for axis in (1, 0)
    )
    return (rows + columns) / 2


def entries(logits: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of every entry [n, n]; targets may leave [0, 1]."""
    found = logits.sigmoid()
    return -wanted * (found + EPSILON).log() - (1 - wanted) * (1 - found + EPSILON).log()


def wbce(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean over entries that should be alike (above ½) plus that over the others, halved."""
    each, positive = entries(logits, wanted), (wanted > 0.5).to(logits.dtype)
    parts = ((each * part).sum() / (part.sum() + EPSILON) for part in (positive, 1 - positive))
    return sum(parts, torch.zeros_like(each.sum())) / 2


def bce(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean over all entries."""
    return entries(logits, wanted).mean()


def mse(logits: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of probabilities."""
    return (logits.sigmoid() - wanted).square().mean()


LOSSES: Mapping[str, Loss] = {"infonce": infonce, "wbce": wbce, "bce": bce, "mse": mse, "cwcl": cwcl, "kl": kl}
