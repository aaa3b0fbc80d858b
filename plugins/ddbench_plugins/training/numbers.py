"""Random numbers apart from what is done with them: drawn on the CPU from a seed, moved to a GPU many steps at once.

*Numbers* are nested tuples of CPU tensors and plain values. So every device sees the same ones, no step waits for a
copy, and a step whose numbers have the :class:`Layout` of another's can be replayed as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

if TYPE_CHECKING:
    from torch import Generator, Tensor

Shape = tuple[int, ...]
#: Tensors begin at multiples of this many bytes.
_ALIGNED = 16
#: Bytes after which numbers are copied.
_MOST = 2**26


@dataclass(frozen=True)
class Operation:
    """An augmentation ``operation(images [B, C, H, W], generator, **options)`` in its two parts.

    Attributes:
        draw: ``(shape [B, C, H, W], generator, **options)`` → numbers.
        apply: ``(images, *numbers)`` → images, on the images' device.
        side: of the images that come out, where it is another.
        per_image: every tensor of the numbers has an entry for each image [B, …], which changes no other one, so that
            several batches can be worked on as one.
    """

    draw: Callable[..., tuple[Any, ...]]
    apply: Callable[..., Tensor]
    side: int | None = None
    per_image: bool = False

    def __call__(self, x: Tensor, generator: Generator, *options: Any, **named: Any) -> Tensor:
        """Draw and apply."""
        return self.apply(x, *moved(self.draw(tuple(x.shape), generator, *options, **named), x.device))

    def of(self, **options: Any) -> Operation:
        """Return the operation with these options; ``size`` is that of the images that come out."""
        return replace(self, draw=partial(self.draw, **options), side=options.get("size", self.side))

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of what comes out of images of a shape."""
        return (*shape[:2], self.side, self.side) if self.side else shape


class Layout(NamedTuple):
    """How numbers lie in a row of bytes; what is no tensor is part of it."""

    tree: TreeSpec
    leaves: tuple[Any, ...]
    """Of every tensor its type, shape and first byte; else the value."""
    size: int
    """Bytes."""


class _Place(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]
    first: int
    size: int


def moved(numbers: Any, device: torch.device | str) -> Any:
    """Return numbers on a GPU, without waiting for it; for other devices they stay where they are."""
    tensors = [leaf for leaf in tree_flatten(numbers)[0] if isinstance(leaf, torch.Tensor)]
    if torch.device(device).type != "cuda" or all(tensor.is_cuda for tensor in tensors):
        return numbers
    ((layout, row),) = moved_rows([numbers], device)
    return unpacked(layout, row)


def moved_rows(steps: Iterable[Any], device: torch.device | str) -> Iterator[tuple[Layout, Tensor]]:
    """Yield the numbers of each step as a row of bytes on a GPU, copied many at a time, which nobody waits for."""
    flat, size = list[tuple[Layout, list[torch.Tensor]]](), 0
    for numbers in steps:
        flat.append(_laid_out(numbers))
        size += flat[-1][0].size
        if size > _MOST:
            yield from _copied(flat, device)
            flat, size = [], 0
    yield from _copied(flat, device)


def _copied(flat: list[tuple[Layout, list[Tensor]]], device: torch.device | str) -> list[tuple[Layout, Tensor]]:
    edges = list(accumulate((layout.size for layout, _ in flat), initial=0))
    host = torch.empty(edges[-1], dtype=torch.uint8).pin_memory()
    for (layout, tensors), first in zip(flat, edges, strict=False):
        places = (leaf for leaf in layout.leaves if isinstance(leaf, _Place))
        for place, tensor in zip(places, tensors, strict=True):
            _view(host[first:], place).copy_(tensor)
    there = host.to(device, non_blocking=True)
    return [(layout, there[a:b]) for (layout, _), (a, b) in zip(flat, pairwise(edges), strict=True)]


def joined(numbers: Sequence[Any]) -> Any:
    """Return the numbers of several batches as those of one, or None where they differ in more than their tensors."""
    flat = [tree_flatten(each) for each in numbers]
    (first, tree), columns = flat[0], list(zip(*(leaves for leaves, _ in flat), strict=False))
    tensors = [isinstance(leaf, torch.Tensor) for leaf in first]
    alike = all(
        column.count(column[0]) == len(column)
        for column, is_tensor in zip(columns, tensors, strict=True)
        if not is_tensor
    )
    if not alike or any(other != tree for _, other in flat):
        return None
    return tree_unflatten(
        [torch.cat(column) if is_tensor else column[0] for column, is_tensor in zip(columns, tensors, strict=True)],
        tree,
    )


def unpacked(layout: Layout, row: Tensor) -> Any:
    """Return the numbers in a row, as views of it."""
    leaves = [_view(row, leaf) if isinstance(leaf, _Place) else leaf for leaf in layout.leaves]
    return tree_unflatten(leaves, layout.tree)


def _laid_out(numbers: Any) -> tuple[Layout, list[Tensor]]:
    leaves, tree = tree_flatten(numbers)
    size, places, tensors = 0, list[Any](), list[torch.Tensor]()
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            tensors.append(leaf)
            places.append(_Place(leaf.dtype, tuple(leaf.shape), size, leaf.nbytes))
            size += -(-leaf.nbytes // _ALIGNED) * _ALIGNED
        else:
            places.append(leaf)
    return Layout(tree, tuple(places), size), tensors


def _view(row: Tensor, place: _Place) -> Tensor:
    return row[place.first : place.first + place.size].view(place.dtype).view(place.shape)
