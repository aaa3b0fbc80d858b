"""Canonical JSON, content keys and seeds: the arithmetic that makes runs comparable and repeatable."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from ddbench.errors import UsageError


def canonical(value: Any) -> str:
    """Serialise plain data to one canonical JSON string (sorted keys, no spaces, no NaN).

    Raises:
        TypeError: for anything that is not plain data; a key never hides an object's address or pickle.
        ValueError: for NaN or infinity, which JSON cannot carry.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 (hex) of the canonical JSON of plain data."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_bytes(*chunks: bytes | memoryview) -> str:
    """Return the sha256 (hex) of the chunks, each prefixed by its length so that borders count."""
    state = hashlib.sha256()
    for chunk in chunks:
        view = memoryview(chunk)
        state.update(view.nbytes.to_bytes(8, "little"))
        state.update(view)
    return state.hexdigest()


def derive_seed(base: int, role: int | str, *indices: int | str) -> int:
    """Derive an independent 31-bit seed for a role, e.g. ``derive_seed(0, "student", 2)``.

    Roles keep the axes of randomness apart: a distillation seed never moves a student's initialisation.
    31 bits suit NumPy, torch and scikit-learn.

    Raises:
        UsageError: the base is no whole number: it would make a seed that no other run can be compared with.
    """
    if isinstance(base, bool) or not isinstance(base, Integral):
        raise UsageError(f"A seed must be derived from a whole number, not from {base!r}.")
    return int(digest([base, role, *indices])[:8], 16) & 0x7FFFFFFF


def _plain(value: Any) -> Any:
    # What most values are comes first, without a call for each text: registries of many records are read through here.
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: item if type(item) is str else _plain(item) for key, item in value.items()}
    if type(value) is list:
        return [item if type(item) is str else _plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):  # NumPy's, too
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in a key")
        # 1.0 and 1 are the same setting, so they share a key.
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"keys must be strings, not {key!r}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not plain data and cannot be part of a key")
