"""Kernels of infinitely wide fully connected ReLU networks, in closed form (Cho and Saul 2009; Jacot et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: Variances of weights and biases in KIP.ipynb, in the NTK parametrisation.
WEIGHT, BIAS = 2.0, 0.01
#: Cosines closer to ±1 than this are taken for ±1: there the derivative of the angle is not finite.
PARALLEL = 1e-12


@dataclass(frozen=True)
class Kernel:
    """NNGP or NTK of a network of ``depth`` hidden layers; called with float64 images [n, d] and [m, d]: [n, m].

    Gradients are finite also where an image of one side equals one of the other.
    """

    kind: Literal["ntk", "nngp"] = "ntk"
    depth: int = 1

    def __call__(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the kernel of every pair."""
        size = x.shape[1]
        nngp = ntk = WEIGHT * (x @ z.T) / size + BIAS
        q = (WEIGHT * x.square().sum(1) / size + BIAS)[:, None]
        r = (WEIGHT * z.square().sum(1) / size + BIAS)[None, :]
        for _ in range(self.depth):
            product, slope = _arc_cosine(nngp, (q * r).sqrt())
            nngp = WEIGHT * product + BIAS
            ntk = nngp + WEIGHT * slope * ntk
            q, r = WEIGHT * q / 2 + BIAS, WEIGHT * r / 2 + BIAS
        return ntk if self.kind == "ntk" else nngp


def _arc_cosine(covariance: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[relu(u)·relu(v)] and E[relu'(u)·relu'(v)] of normal u, v whose standard deviations multiply to scale."""
    cosine = (covariance / scale).clamp(-1, 1)
    parallel = cosine.abs() >= 1 - PARALLEL
    inside = cosine.masked_fill(parallel, 0.0)
    angle = torch.where(parallel, torch.where(cosine > 0, 0.0, math.pi), inside.arccos())
    sine = torch.where(parallel, 0.0, (1 - inside.square()).sqrt())
    return scale * (sine + (math.pi - angle) * cosine) / (2 * math.pi), (math.pi - angle) / (2 * math.pi)
