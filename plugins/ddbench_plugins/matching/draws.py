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
from ddbench_plugins.training.transfer import network_moved, take_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from ddbench import Context, Dataset
    from ddbench_plugins.training.dsa import Drawn, Operator


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
    drawn = draw_shared(size, generator, strategy, variant)
    return partial(apply, drawn=moved(drawn, device)) if strategy else unchanged


def draw_shared(
    size: int, generator: Generator, strategy: Sequence[Operator] = STRATEGY, variant: Literal["dc", "idc"] = "dc"
) -> tuple[Drawn, ...]:
    """Draw the numbers of :func:`draw_view`, for :func:`ddbench_plugins.training.dsa.apply`."""
    if not strategy:
        return ()
    return (draw_dc if variant == "dc" else draw_idc)(1, size, generator, strategy)


def unchanged(x: Tensor) -> Tensor:
    """Leave a batch as it is."""
    return x


def strategy_for(dataset: Dataset) -> tuple[Operator, ...]:
    """Return DatasetCondensation's strategy: without ``flip`` where a mirrored image loses its label (MNIST, SVHN)."""
    return STRATEGY if dataset.flip else STRATEGY_WITHOUT_FLIP


def fresh_networks(ctx: Context, name: str, *, one_by_one: bool = False) -> Callable[[int], nn.Module]:
    """Return a function that gives the randomly initialised network of an iteration, in training mode.

    Its weights depend on the seed of the run and the iteration alone. ``one_by_one``, for those who are done with a
    network when they ask for the next: on a GPU that is the same one with new weights, so that its graphs are kept.
    """
    device = torch.device(ctx.machine.device)
    kept: list[nn.Module] = []

    def make(iteration: int) -> nn.Module:
        network: nn.Module = ctx.build_network(name, seed=ctx.seed("matching network", iteration))
        network.to(memory_format=torch.channels_last)
        if kept:
            take_over(kept[0], network)
            return kept[0].train()
        network = network_moved(network, device).train()
        if one_by_one and device.type == "cuda":
            kept.append(network)
        return network

    return make


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Return the batch norms of a network in order."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return [module for module in network.modules() if isinstance(module, kinds)]
