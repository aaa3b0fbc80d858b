"""Explicit randomness: every random number of a training comes from a generator derived from its seed."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def stream_seed(*place: int | str) -> int:
    """Mix non-negative integers and words (a seed, "noise", an epoch) into one independent 63-bit seed.

    Trailing zeros do not count. Not to be confused with :func:`ddbench.derive_seed`, whose seeds are in keys.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in place]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1


def make_generator(*place: int | str) -> torch.Generator:
    """CPU generator of one place of a run, from :func:`stream_seed`; draws are moved to the device.

    So devices see the same numbers, and resumed work draws the same ones.
    """
    return torch.Generator().manual_seed(stream_seed(*place))


@contextmanager
def seeded(*place: int | str) -> Iterator[None]:
    """Seed torch's global generators inside the block (weight initialisation, dropout) and restore them after it."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if used else []):
        torch.manual_seed(stream_seed(*place))
        yield


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
    return torch.randperm(count, generator=make_generator(seed, "order", epoch))
