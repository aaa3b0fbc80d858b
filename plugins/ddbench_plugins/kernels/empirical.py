"""The neural tangent kernel of a finite network, and the largest learning rate that it bears."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ddbench import DivergedError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Numbers of gradients that are held of one of two blocks of images: bounds the memory (1 GiB each).
HELD = 2**28


def empirical_ntk(network: nn.Module, images: Tensor) -> Tensor:
    """Return Θ [n, n], float64, of Σ_k f_k / √K on images [n, C, S, S] as the network takes them.

    Of the K outputs f of a wide network, whose gradients are nearly orthogonal, it is the kernel of each. The network
    is in evaluation mode for it, so that images do not change each other's outputs.
    """
    training = network.training
    network.eval()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    size = max(1, HELD // sum(parameter.numel() for parameter in parameters))
    parts = images.split(size)
    kernel = torch.empty(len(images), len(images), dtype=torch.float64)
    try:
        for row, part in enumerate(parts):
            ours = _gradients(network, parameters, part)
            for column, other in enumerate(parts[: row + 1]):
                theirs = ours if column == row else _gradients(network, parameters, other)
                block = (ours @ theirs.T).double().cpu()
                rows = slice(row * size, row * size + len(part))
                columns = slice(column * size, column * size + len(other))
                kernel[rows, columns], kernel[columns, rows] = block, block.T
    finally:
        network.train(training)
    return kernel


def largest_rate(kernel: Tensor, outputs: int, momentum: float = 0.0) -> float:
    """Return 2 (1 + momentum) · n · K / λ_max, the largest rate at which gradient descent on a kernel [n, n] is stable.

    The loss is half the mean squared error of n images and K outputs (Lee et al. 2019; with momentum Goh 2017).

    Raises:
        DivergedError: the kernel is 0, or not finite.
    """
    highest = float(torch.linalg.eigvalsh(kernel)[-1]) if bool(kernel.isfinite().all()) else math.nan
    if not highest > 0:
        raise DivergedError(f"The largest eigenvalue of the network's tangent kernel is {highest}: no rate follows.")
    return 2 * (1 + momentum) * len(kernel) * outputs / highest


def _gradients(network: nn.Module, parameters: list[nn.Parameter], images: Tensor) -> Tensor:
    """Return the gradient of each image's Σ_k f_k / √K, [n, P]."""
    found = []
    for image in images.split(1):
        outputs = network(image).float()
        value = outputs.sum() / outputs.shape[1] ** 0.5
        each = torch.autograd.grad(value, parameters, materialize_grads=True, allow_unused=True)
        found.append(torch.cat([gradient.flatten() for gradient in each]))
    return torch.stack(found)
