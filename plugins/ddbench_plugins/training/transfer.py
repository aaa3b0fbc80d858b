"""From the host to a device and back: queued copies from pinned memory, and few of them, so that the host rarely waits.

On a CPU all of this hands tensors through as they are.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

Network = TypeVar("Network", bound="nn.Module")
#: Tensors in a shared buffer begin at multiples of so many bytes, which convolutions on tensor cores ask for.
ALIGNMENT = 256


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device; the copy to a GPU is queued, and nobody waits for it."""
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def sent_together(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Return small tensors on a device, those of one type in one copy."""
    if torch.device(device).type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    places: dict[torch.dtype, list[int]] = defaultdict(list)
    for place, tensor in enumerate(tensors):
        places[tensor.dtype].append(place)
    moved = list(tensors)
    for mine in places.values():
        whole = sent(torch.cat([tensors[place].reshape(-1) for place in mine]), device)
        for place, part in zip(mine, whole.split([tensors[place].numel() for place in mine]), strict=True):
            moved[place] = part.view(tensors[place].shape)
    return moved


def network_sent(network: Network, device: torch.device | str) -> Network:
    """Move a network's parameters and buffers, those of one type in one copy; they keep their memory formats."""
    if torch.device(device).type != "cuda":
        network.to(device)
        return network
    owned: dict[torch.dtype, list[Tensor]] = defaultdict(list)
    for tensor in _once([*network.parameters(), *network.buffers()]):
        owned[tensor.dtype].append(tensor)
    there: dict[int, Tensor] = {}
    for dtype, tensors in owned.items():
        step = ALIGNMENT // dtype.itemsize
        starts, size = [], 0
        for tensor in tensors:
            starts.append(size)
            size += -(-tensor.numel() // step) * step
        buffer = torch.zeros(size, dtype=dtype)
        for tensor, start in zip(tensors, starts, strict=True):
            _as(tensor, buffer, start).copy_(tensor.detach())
        whole = sent(buffer, device)
        there |= {id(tensor): _as(tensor, whole, start) for tensor, start in zip(tensors, starts, strict=True)}
    network._apply(lambda tensor: there[id(tensor)])  # which is how modules move themselves
    return network


def _as(tensor: Tensor, buffer: Tensor, start: int) -> Tensor:
    return buffer.as_strided(tensor.shape, tensor.stride(), start)


def _once(tensors: Iterable[Tensor]) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())


def fetched(*tensors: Tensor) -> list[Tensor]:
    """Return tensors on the CPU, waiting for the device once."""
    moved = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
        torch.cuda.synchronize(device)
    return moved
