"""DD-Ranking's scores (Li et al. 2025, README and docs): what a distilled set owes to its images.

All accuracies are fractions in [0, 1]. The released code puts percentages into the exponential, which leaves the scale
of its own documentation (metrics/soft_label.py, 0.2.0); here a percentage is refused.
"""

from __future__ import annotations

import math


def hard_label_recovery(real_hard: float, syn_hard: float) -> float:
    """HLR: what hard labels lose between the whole training set and the distilled set; smaller is better."""
    _check(real_hard, syn_hard)
    return real_hard - syn_hard


def improvement_over_random(syn: float, random: float) -> float:
    """IOR: what the distilled set gains over as many random real images under the method's own labels."""
    _check(syn, random)
    return syn - random


def label_robust_alpha(ior: float, hlr: float, weight: float = 0.5) -> float:
    """α = w·IOR − (1−w)·HLR, in [−1, 1]."""
    return weight * ior - (1 - weight) * hlr


def augmentation_robust_beta(ior_augmented: float, ior_plain: float, weight: float = 0.5) -> float:
    """β = γ·IOR with augmentation + (1−γ)·IOR without, in [−1, 1]."""
    return weight * ior_augmented + (1 - weight) * ior_plain


def robust_score(value: float) -> float:
    """LRS of α, ARS of β: (eˣ − e⁻¹)/(e − e⁻¹), which maps −1, 0, 1 to 0, 0.2689, 1.

    Raises:
        ValueError: a value outside [−1, 1], as percentages give.
    """
    if not -1 <= value <= 1:
        raise ValueError(f"{value} lies outside [-1, 1]; accuracies are fractions, not percent")
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(*accuracies: float) -> None:
    for accuracy in accuracies:
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy {accuracy} lies outside [0, 1]; accuracies are fractions, not percent")
