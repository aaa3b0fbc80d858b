"""Arguments of the Python API as people hand them over: read where the meaning is plain, else refused by name."""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ddbench.errors import UsageError


def text(value: Any, what: str) -> str:
    """Return a text.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, str):
        hint = "Write folder:PATH or npz:PATH." if what == "dataset" and isinstance(value, os.PathLike) else ""
        raise UsageError(f"{what} must be text, not {_described(value)}.", hint=hint)
    return value


def names(value: Any, what: str) -> list[str]:
    """Return names from one, a comma list or a sequence, each once; none of an empty one."""
    parts = value.split(",") if isinstance(value, str) else _items(value, what, "a name or a list of names")
    return list(dict.fromkeys(part.strip() for part in (text(part, what) for part in parts) if part.strip()))


def whole(value: Any, what: str, least: int | None = None) -> int:
    """Return a whole number, also from a NumPy integer or from text such as an environment variable's.

    Raises:
        UsageError: it is none (truth values and fractions are none), or it is below ``least``.
    """
    number = None
    if isinstance(value, str):
        digits = value.strip().removeprefix("-")
        number = int(value) if digits.isascii() and digits.isdigit() and len(digits) <= 19 else None
    elif not isinstance(value, bool | np.bool_):
        try:
            number = operator.index(value)
        except TypeError:
            number = None
    if number is None:
        raise UsageError(f"{what} must be a whole number, not {_described(value)}.")
    if least is not None and number < least:
        raise UsageError(f"{what} must be at least {least}, not {number}.")
    return number


def numbers(value: Any, what: str, least: int | None = None) -> list[int]:
    """Return whole numbers from one, a comma list or a sequence, each once; none of an empty one."""
    if isinstance(value, str):
        value = value.split(",") if value.strip() else []
    elif isinstance(value, bool) or (hasattr(value, "__index__") and getattr(value, "ndim", 0) == 0):
        value = [value]
    items = _items(value, what, "a whole number or a list of them")
    return list(dict.fromkeys(whole(item, what, least) for item in items))


def decimal(value: Any, what: str) -> float:
    """Return a number, also from NumPy's; text and truth values are none.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise UsageError(f"{what} must be a number, not {_described(value)}.")
    return float(value)


def decimals(value: Any, what: str) -> tuple[float, ...]:
    """Return numbers from a sequence, in order."""
    if isinstance(value, str):
        raise UsageError(f"{what} must be a list of numbers, not {_described(value)}.")
    return tuple(decimal(item, what) for item in _items(value, what, "a list of numbers"))


def texts(value: Any, what: str) -> tuple[str, ...]:
    """Return texts from a sequence, in order; a single text is none, as its letters would be meant."""
    if isinstance(value, str):
        raise UsageError(f"{what} must be a list of texts, not {_described(value)}.")
    return tuple(text(item, what) for item in _items(value, what, "a list of texts"))


def path(value: Any, what: str) -> Path:
    """Return a path, ``~`` being the home folder.

    Raises:
        UsageError: neither text nor a path, or no name that a file can have.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise UsageError(f"{what} must be a path, not {_described(value)}.")
    try:
        place = Path(value).expanduser()
        place.lstat()
    except (RuntimeError, ValueError) as error:  # no such user, or characters that no name of a file has
        raise UsageError(f"{what} must be a path, not {_described(value)}: {error}.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{what} must be a path, and {_described(value)} is too long for one.") from error
    if not os.fspath(value):
        raise UsageError(f"{what} must be a path, not {os.fspath(value)!r}.")
    return place


def paths(value: Any, what: str) -> list[Path]:
    """Return paths from one or from several."""
    single = isinstance(value, str | os.PathLike)
    return [path(item, what) for item in ([value] if single else _items(value, what, "a path or a list of paths"))]


def flag(value: Any, what: str) -> bool:
    """Return a truth value; text is none, as "no" would be true."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{what} must be True or False, not {_described(value)}.")
    return bool(value)


def options(value: Any) -> dict[str, dict[str, Any]]:
    """Return options by scope, with NumPy's numbers and paths as plain data."""
    example = 'Such as options={"method": {"strength": 0.6}, "eval": {"epochs": 100}}.'
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"options must be a table of tables, not {_described(value)}.", hint=example)
    scopes: dict[str, dict[str, Any]] = {}
    for scope, values in value.items():
        if not isinstance(scope, str) or not isinstance(values, Mapping) or not all(isinstance(k, str) for k in values):
            raise UsageError(
                f"options of {scope!r} must be a table with names, not {_described(values)}.", hint=example
            )
        scopes[scope] = {name: _plain(item) for name, item in values.items()}
    return scopes


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _items(value: Any, what: str, wanted: str) -> list[Any]:
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
        raise UsageError(f"{what} must be {wanted}, not {_described(value)}.")
    return list(value)


def _described(value: Any) -> str:
    shown = repr(value)
    return f"{shown if len(shown) <= 60 else shown[:57] + '…'} ({type(value).__name__})"
