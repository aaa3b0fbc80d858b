"""The features of a network at its levels: what each pooling layer gets, and what the last layer reads."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from torch import nn

import ddbench

if TYPE_CHECKING:
    from torch import Tensor

_POOLING = (nn.AvgPool2d, nn.MaxPool2d)


def levels(network: Any, x: Tensor) -> list[Tensor]:
    """Return [B, C, S, S] before each pooling layer, first to last, and the features [B, F]; in float32 at least.

    Compiled kernels do without pooling layers: call it outside :func:`ddbench_plugins.networks.native.kernels`.
    """
    found: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in _pooling(network):
            hook = layer.register_forward_pre_hook(lambda _, given: found.append(given[0]))
            hooks.callback(hook.remove)
        features = network.embed(x)
    return [each if each.dtype.itemsize >= 4 else each.float() for each in (*found, features)]


def check_levels(network: nn.Module, name: str, weights: int) -> None:
    """Raise ``UsageError`` unless a network has as many levels as there are weights of them."""
    pooling = len(_pooling(network))
    if pooling + 1 != weights:
        raise ddbench.UsageError(
            f"{name} has {pooling} pooling layers, so its levels need {pooling + 1} weights, not {weights}.",
            hint=f"Say -o method.weights=[{', '.join(['0.1'] * max(0, pooling - 1) + ['1'] * min(2, pooling + 1))}].",
        )


def _pooling(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, _POOLING)]
