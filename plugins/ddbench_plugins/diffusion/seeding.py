"""Random streams that depend only on a seed and a position, so that resumed work draws the same numbers."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import torch


def stream_seed(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place of a run, for example ``stream_seed(0, "noise", step)``."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in place]
    return int(np.random.SeedSequence([int(seed), *words]).generate_state(1, np.uint64)[0] >> 1)


def torch_stream(seed: int, *place: int | str) -> torch.Generator:
    """A CPU generator for one place of a run; draws are moved to the device, so devices see the same numbers."""
    return torch.Generator().manual_seed(stream_seed(seed, *place))


def batch_indices(count: int, batch: int, step: int, seed: int) -> torch.Tensor:
    """The indices [batch] of training step ``step``: consecutive slices of one seeded permutation per epoch.

    A batch may span two epochs, so every batch is full and every item is seen once per epoch.
    """
    if count < 1:
        raise ValueError("there is nothing to draw batches from")
    positions = range(step * batch, (step + 1) * batch)
    return torch.stack([_order(count, seed, position // count)[position % count] for position in positions])


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(count, generator=torch_stream(seed, "order", epoch))
