"""Ridge regression on labels with a kernel, float64: predictions K_ts (K_ss + λ·tr(K_ss)/n·I)⁻¹ Y_s."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ddbench import DataError, DivergedError

if TYPE_CHECKING:
    from torch import Tensor

#: Numbers of a block of a kernel, or of the images it is computed of: bounds the memory, changes last digits only.
TOGETHER = 2**21


def centred(labels: Tensor, classes: int) -> Tensor:
    """Return one-hot − 1/K as float64 [n, K] of labels int64 [n]."""
    return torch.nn.functional.one_hot(labels, classes).double() - 1 / classes


def regularised(kernel: Tensor, ridge: float, *, absolute: bool = False) -> Tensor:
    """Return K [n, n] with λ times its mean diagonal added to the diagonal, or with λ/n where ``absolute``."""
    level = ridge / len(kernel) if absolute else ridge * kernel.diagonal().mean()
    return kernel + level * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)


def solve(matrix: Tensor, targets: Tensor) -> Tensor:
    """Return M⁻¹ Y [n, K] of a symmetric positive definite matrix [n, n].

    Raises:
        DivergedError: NaN or infinity in the matrix, or nothing at all.
        DataError: the matrix is singular: images that are the same, and next to no ridge.
    """
    if not bool(matrix.detach().isfinite().all()):
        raise DivergedError("The kernel of the images is not finite.", hint="Lower the learning rate of the pixels.")
    if not bool(matrix.detach().diagonal().any()):
        raise DivergedError("The kernel of the images is 0.", hint="Lower the learning rate of the pixels.")
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise DataError(
            f"The kernel matrix of {len(matrix)} images is singular: some are the same, or one is a sum of others.",
            hint="Raise the ridge (-o eval.ridge=…, -o method.ridge=…).",
        )
    return torch.cholesky_solve(targets, factor)


def block_size(columns: Tensor) -> int:
    """Return how many rows of a kernel are computed at once against images [n, d]."""
    return max(1, TOGETHER // int(max(columns.shape)))
