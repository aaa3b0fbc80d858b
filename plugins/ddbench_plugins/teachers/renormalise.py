"""A network behind another normalisation: one batch serves a student and a teacher that know different constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ddbench_plugins.networks.base import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


class Renormalised(Network):
    """``network``, which takes images normalised by ``own_mean`` and ``own_std``, for images normalised by others."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: Network,
        mean: Sequence[float],
        std: Sequence[float],
        own_mean: Sequence[float],
        own_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.network = network
        given, own = torch.tensor([mean, std]).view(2, -1, 1, 1), torch.tensor([own_mean, own_std]).view(2, -1, 1, 1)
        self.register_buffer("scale", given[1] / own[1])
        self.register_buffer("shift", (given[0] - own[0]) / own[1])

    @property
    def head(self) -> nn.Linear:
        """The last linear layer."""
        return self.network.head

    def embed(self, x: Tensor) -> Tensor:
        """Features of images ``[B, C, S, S]`` in the given normalisation, ``[B, F]``."""
        return self.network.embed(x * self.scale + self.shift)
