"""Explicit randomness: every random number of a training comes from a generator derived from its seed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def derive_seed(*parts: int) -> int:
    """Mix non-negative integers (a seed, an epoch, …) into one independent 63-bit seed. Trailing zeros do not count."""
    state = np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]
    return int(state) >> 1


def make_generator(*parts: int) -> torch.Generator:
    """CPU generator seeded by :func:`derive_seed`. Small random numbers are drawn on the CPU on every device."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@contextmanager
def seeded(*parts: int) -> Iterator[None]:
    """Seed torch's global generators inside the block (weight initialisation, dropout) and restore them after it."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(*parts))
        yield
