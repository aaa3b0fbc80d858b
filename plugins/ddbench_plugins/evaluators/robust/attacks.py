"""White-box attacks in the maximum norm: FGSM (Goodfellow et al. 2015) and PGD (Madry et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def pgd(
    logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, *, epsilon: float, step: float, steps: int
) -> Tensor:
    """Return images in [0, 1], at most ``epsilon`` away in each pixel, that raise the cross-entropy; no random start.

    With one step of ``epsilon`` it is FGSM.

    Args:
        logits: of images [n, C, S, S] in [0, 1].
        images: those to start from.
        labels: [n], of the right classes.
        epsilon: largest change.
        step: change of each pixel in one step.
        steps: how many.
    """
    attacked = images
    for _ in range(steps):
        attacked = attacked.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits(attacked), labels), attacked)
        moved = attacked.detach() + step * gradient.sign()
        attacked = (images + (moved - images).clamp(-epsilon, epsilon)).clamp(0, 1)
    return attacked.detach()
