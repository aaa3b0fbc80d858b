"""The NNGP kernel of an infinitely wide ConvNet, approximated by the features of random ones (Loo et al. 2022, RFAD).

The read-out layer is integrated out, not sampled: K = 2 ΦΦᵀ + 0.01, with Φ the last maps of all networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ddbench_plugins.kernels.fully_connected import BIAS, WEIGHT
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from torch import Tensor


#: Images that go through a network at once: bounds the memory.
TOGETHER = 512

Layers = Sequence[tuple["Tensor", "Tensor"]]
"""Weights [C', C, 3, 3] and biases [C'] of a network's convolutions."""


@dataclass(frozen=True)
class RandomConvNets:
    """``count`` random ConvNets of ``depth`` blocks (convolution 3×3 of ``width`` channels, ReLU, average pooling).

    Weights are N(0, 2/fan-in), biases N(0, 0.01).
    """

    count: int
    depth: int
    width: int

    def draw(self, channels: int, device: torch.device | str, *place: int | str) -> list[Layers]:
        """Return the layers of each network; the same for the same place (a seed, an iteration)."""
        inputs = [channels, *[self.width] * (self.depth - 1)]
        networks: list[Layers] = []
        for number in range(self.count):
            generator = make_generator(*place, "random features", number)
            networks.append([_layer(size, self.width, generator, device) for size in inputs])
        return networks


def features(networks: Sequence[Layers], images: Tensor) -> Tensor:
    """Return the last maps of all networks [n, d] of images [n, C, S, S], divided by √d: float32; differentiable."""
    found = []
    for layers in networks:
        x = images.contiguous(memory_format=torch.channels_last)
        for weight, bias in layers:
            x = F.avg_pool2d(F.relu(F.conv2d(x, weight, bias, padding=1)), 2)
        found.append(x.flatten(1))
    flat = torch.cat(found, 1)
    return (flat if flat.dtype == torch.float64 else flat.float()) / math.sqrt(flat.shape[1])


def covariance(x: Tensor, z: Tensor) -> Tensor:
    """Return the kernel [n, m] of features [n, d] and [m, d], in their precision."""
    return WEIGHT * (x @ z.T) + BIAS


def nngp(networks: Sequence[Layers], support: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the kernels K_ss [n, n] and K_ts [m, n] of support images [n, C, S, S] and others, float64.

    Gradients flow to the support only.
    """
    ours = features(networks, support)
    with torch.no_grad():
        theirs = torch.cat([features(networks, part) for part in images.split(TOGETHER)])
    # The former in float64, so that rounding cannot make it indefinite.
    return covariance(ours.double(), ours.double()), covariance(theirs, ours).double()


def _layer(inputs: int, outputs: int, generator: torch.Generator, device: torch.device | str) -> tuple[Tensor, Tensor]:
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator) * math.sqrt(WEIGHT / (9 * inputs))
    bias = torch.randn(outputs, generator=generator) * math.sqrt(BIAS)
    return weight.to(device=device, memory_format=torch.channels_last), bias.to(device)
