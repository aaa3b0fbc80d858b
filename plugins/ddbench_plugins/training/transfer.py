"""Networks to a device and results back, with few copies: the host waits for each of them, or for none."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from ddbench_plugins.training.numbers import moved

if TYPE_CHECKING:
    from torch import Tensor, nn

Network = TypeVar("Network", bound="nn.Module")


def network_moved(network: Network, device: torch.device | str) -> Network:
    """Move a network in place, to a GPU in one copy for which nobody waits; tensors keep their memory formats."""
    if torch.device(device).type != "cuda":
        network.to(device)
        return network
    tensors = _tensors(network)
    rows = moved(tuple(map(_flat, tensors)), device)
    # As data: a change of one, such as a batch norm's statistics, is none of the others that share its memory.
    there = {
        id(tensor): row.data.as_strided(tensor.shape, tensor.stride())
        for tensor, row in zip(tensors, rows, strict=True)
    }
    network._apply(lambda tensor: there[id(tensor)])  # which is how modules move themselves
    return network


@torch.no_grad()
def take_over(network: nn.Module, other: nn.Module) -> None:
    """Give a network on a GPU all that ``other``, its like on the CPU, has, in one copy and into the same memory."""
    mine, theirs = map(_tensors, (network, other))
    rows = moved(tuple(map(_flat, theirs)), mine[0].device)
    for dtype in {tensor.dtype for tensor in mine}:
        pairs = [(_flat(old), new) for old, new in zip(mine, rows, strict=True) if old.dtype == dtype]
        torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))


def _tensors(network: nn.Module) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}.values())


def _flat(tensor: Tensor) -> Tensor:
    """Return a dense tensor's memory."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def fetched(*tensors: Tensor) -> list[Tensor]:
    """Return tensors on the CPU, waiting for the device once."""
    fetched = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
        torch.cuda.synchronize(device)
    return fetched
