"""Networks that are made anew again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddbench import Context


def fresh_networks(ctx: Context, name: str) -> Callable[[int], nn.Module]:
    """Return a function that gives the randomly initialised network of an iteration, in training mode.

    Its weights depend on the seed of the run and the iteration alone.
    """

    def make(iteration: int) -> nn.Module:
        network: nn.Module = ctx.build_network(name, seed=ctx.seed("matching network", iteration))
        return network.to(device=ctx.machine.device, memory_format=torch.channels_last).train()

    return make


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Return the batch norms of a network in order."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return [module for module in network.modules() if isinstance(module, kinds)]
