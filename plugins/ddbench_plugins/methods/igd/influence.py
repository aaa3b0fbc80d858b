"""Gradients of a classifier that real images of a class give, and how far those of made images are from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddbench_plugins.methods.mtt.trajectories import FlatNetwork

#: Images whose gradients are taken at a time.
MOST = 50


class Checkpoint(NamedTuple):
    """A classifier at one time of its training."""

    parameters: Tensor
    """[P]."""
    real: Tensor
    """The gradients [n, P] by them that the class of each of n images gives."""


def class_gradient(network: FlatNetwork, parameters: Tensor, images: Tensor, label: int) -> Tensor:
    """Return the gradient [P] of the mean cross-entropy of a class's images [m, C, S, S], normalised."""
    total = torch.zeros_like(parameters)
    for part in images.split(MOST):
        where = parameters.detach().requires_grad_()
        loss = network.loss(where, part, torch.full((len(part),), label, device=part.device))
        total += torch.autograd.grad(loss, where)[0] * len(part) / len(images)
    return total


def chosen(count: int, similarity: Callable[[int, int], float], threshold: float) -> list[int]:
    """Return the first of ``count`` checkpoints, and each that is less similar than that to the last one returned."""
    found = [0]
    for number in range(1, count):
        if similarity(found[-1], number) < threshold:
            found.append(number)
    return found


def apart(network: FlatNetwork, checkpoints: Sequence[Checkpoint], images: Tensor, labels: Tensor) -> Tensor:
    """Return, for each image [n, C, S, S], 1 − the cosine of its gradient and its class's, mean of checkpoints [n].

    It can be differentiated by the images.
    """
    losses = []
    for row in range(len(images)):
        found = []
        for parameters, real in checkpoints:
            where = parameters.detach().requires_grad_()
            loss = network.loss(where, images[row : row + 1], labels[row : row + 1])
            (gradient,) = torch.autograd.grad(loss, where, create_graph=True)
            found.append(1 - F.cosine_similarity(gradient, real[row], dim=0))
        losses.append(torch.stack(found).mean())
    return torch.stack(losses)
