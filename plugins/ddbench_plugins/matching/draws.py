"""What is drawn in every iteration: the network and the Siamese augmentation.

One draw of the augmentation changes a real and a synthetic batch, and every image of both, in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ddbench_plugins.training.dsa import STRATEGY, STRATEGY_WITHOUT_FLIP, apply, draw_dc, draw_idc
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.transfer import network_moved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from ddbench import Context, Dataset
    from ddbench_plugins.training.dsa import Operator


View = Callable[["Tensor"], "Tensor"]
"""One drawn augmentation of normalised batches [B, C, S, S]; differentiable, the same for every batch and image."""


def draw_view(
    size: int,
    generator: Generator,
    strategy: Sequence[Operator] = STRATEGY,
    variant: Literal["dc", "idc"] = "dc",
    device: torch.device | str = "cpu",
) -> View:
    """Draw operators and parameters once, for images of ``size`` pixels on a device.

    An empty strategy draws nothing and changes nothing. What "dc" and "idc" compose is described in
    :mod:`ddbench_plugins.training.dsa`.
    """
    if not strategy:
        return unchanged
    draw = draw_dc if variant == "dc" else draw_idc
    return partial(apply, drawn=moved(draw(1, size, generator, strategy), device))


def unchanged(x: Tensor) -> Tensor:
    """Leave a batch as it is."""
    return x


def strategy_for(dataset: Dataset) -> tuple[Operator, ...]:
    """Return DatasetCondensation's strategy: without ``flip`` where a mirrored image loses its label (MNIST, SVHN)."""
    return STRATEGY if dataset.flip else STRATEGY_WITHOUT_FLIP


def fresh_networks(ctx: Context, name: str) -> Callable[[int], nn.Module]:
    """Return a function that gives the randomly initialised network of an iteration, in training mode.

    Its weights depend on the seed of the run and the iteration alone.
    """

    def make(iteration: int) -> nn.Module:
        network: nn.Module = ctx.build_network(name, seed=ctx.seed("matching network", iteration))
        return network_moved(network.to(memory_format=torch.channels_last), ctx.machine.device).train()

    return make


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Return the batch norms of a network in order."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return [module for module in network.modules() if isinstance(module, kinds)]
