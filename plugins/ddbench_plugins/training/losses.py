"""Losses of the evaluation protocols. All take logits of shape ``[B, K]`` and return the mean over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def kl_soft_label(student: Tensor, teacher: Tensor, temperature: float, *, scale_by_t2: bool = False) -> Tensor:
    """KL(softmax(teacher/T) ‖ softmax(student/T)), batch mean.

    RDED, SRe2L and DD-Ranking do **not** multiply by T²; only SRe2L's Tiny-ImageNet code does (``scale_by_t2``).
    """
    log_q = F.log_softmax(student.float() / temperature, dim=1)
    log_p = F.log_softmax(teacher.float() / temperature, dim=1)
    loss = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return loss * temperature**2 if scale_by_t2 else loss


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float, *, scale_by_t2: bool = False) -> Tensor:
    """−mean Σ p·log q with the temperature on both sides (DD-Ranking "sce")."""
    log_q = F.log_softmax(student.float() / temperature, dim=1)
    p = F.softmax(teacher.float() / temperature, dim=1)
    loss = -(p * log_q).sum(1).mean()
    return loss * temperature**2 if scale_by_t2 else loss


def mse_and_ground_truth(
    student: Tensor, teacher: Tensor, labels: Tensor, *, mse_weight: float = 1.0, ce_weight: float = 1.0
) -> Tensor:
    """Weighted MSE between logits (mean over B·K) plus weighted cross-entropy with labels ``[B]`` (DD-Ranking)."""
    mse = F.mse_loss(student.float(), teacher.float())
    return mse_weight * mse + ce_weight * F.cross_entropy(student.float(), labels)


def mixed_cross_entropy(student: Tensor, labels: Tensor, partner_labels: Tensor, ratio: Tensor) -> Tensor:
    """ratio·CE(out, y) + (1−ratio)·CE(out, y_partner), labels ``[B]`` (CutMix in IDC and MinimaxDiffusion)."""
    logits, own, other = student.float(), ratio.float(), (1 - ratio).float()
    return own * F.cross_entropy(logits, labels) + other * F.cross_entropy(logits, partner_labels)
