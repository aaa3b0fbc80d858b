"""Values as the key of a step holds them: arrays, files and other steps by what is in them, never by where they lie."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import PluginError
from ddbench.files.reading import is_text
from ddbench.keys import canonical, digest_bytes
from ddbench.plugin.contracts import PLAIN
from ddbench.runtime.store import Done

if TYPE_CHECKING:
    from ddbench.runtime.context import Context

#: What is plain unless a class of its own gives it attributes.
PLAIN_KINDS = (int, float, str, bytes, dict, list, tuple, set, frozenset, np.ndarray)


class Keyed:
    """What a key stands for, such as the call of a step.

    Attributes:
        key: digest of all that it depends on.
    """

    key: Any


def plain_of(ctx: Context, value: Any, where: str) -> Any:
    """Return an argument as plain data: paths, arrays and steps by what is in them."""
    more = getattr(value, "__dict__", None) if isinstance(value, PLAIN_KINDS) and not isinstance(value, Enum) else None
    if more:
        names = ", ".join(sorted(more))
        raise PluginError(f"{where} is a {type(value).__name__} with {names}, which has no place in the key of a step.")
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, str) and is_text(value)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, bytes):
        return {"bytes": digest_bytes(value)}
    if isinstance(value, Path):
        return {"content": ctx.content_digest(value)}
    if isinstance(value, (Keyed, Done)):
        return {"step": value.key}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, Mapping):
        pairs = [[plain_of(ctx, name, where), plain_of(ctx, item, where)] for name, item in value.items()]
        texts = all(isinstance(name, str) for name, _ in pairs)
        return dict(pairs) if texts else {"pairs": sorted(pairs, key=canonical)}
    if isinstance(value, (list, tuple)):
        return [plain_of(ctx, item, where) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain_of(ctx, item, where) for item in value), key=canonical)
    if isinstance(value, Enum):
        return {"of": place_of(type(value)), "name": value.name}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: plain_of(ctx, getattr(value, part.name), where) for part in fields(value) if part.compare}
        return {"of": place_of(type(value)), **parts}
    if (content := _content(value)) is not None:
        return {"shape": list(value.shape), "dtype": str(value.dtype), "content": digest_bytes(content)}
    told = " ".join(repr(value).split())[:200]
    raise PluginError(f"{where} is {told}, which has no place in the key of a step.", hint=PLAIN)


def _content(value: Any) -> bytes | None:
    """Return the numbers of an array or a tensor; None of anything else, and of what holds more than numbers."""
    if isinstance(value, (np.ndarray, np.generic)) and not isinstance(value, np.ma.MaskedArray):
        return None if value.dtype.hasobject else value.tobytes()
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    with contextlib.suppress(RuntimeError, TypeError, NotImplementedError):  # sparse and quantised ones, for example
        dense = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return bytes(dense.reshape(-1).view(torch.uint8).numpy().tobytes())  # NumPy knows no bfloat16
    return None


def place_of(thing: Any) -> str:
    """Return module and name of a class or function; of a plugin file, that of the file, wherever it lies."""
    file = getattr(sys.modules.get(thing.__module__), "__ddbench_file__", "")
    return f"{file or thing.__module__}:{thing.__qualname__}"


def text_of(thing: Any) -> str:
    """Return the digest of the text of the plugin file, whose author works on it, of a class or function; else ''."""
    module = sys.modules.get(thing.__module__)
    return (
        digest_bytes(Path(str(module.__file__)).read_bytes()) if module and hasattr(module, "__ddbench_file__") else ""
    )
