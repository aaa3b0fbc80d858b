"""What a step can read besides its context and arguments: closures, attributes, and globals of a plugin file."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from enum import Enum
from typing import Any

import numpy as np

from ddbench.plugin import interfaces

#: Attributes of classes and functions that count; other objects are tools, or kept from one call to the next.
CONSTANTS = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset, np.ndarray, np.generic, Enum)
#: Globals of a plugin file that count, beside its text: tables that grow while it works are its memory.
SIMPLE = (bool, int, float, str)


class Wrapper:
    """What wraps a function that a plugin may call, as a cached step does."""

    function: Any


def captured(function: types.FunctionType, kinds: tuple[type, ...]) -> Iterator[tuple[str, Any, bool]]:
    """Yield name and value of what a function can read, and whether it has to be plain data.

    Args:
        function: of a step.
        kinds: the classes that its plugin derives from, itself first; any of their functions may be called.
    """
    pending: list[Any] = [function]
    shadowed = {name for kind in interfaces.Plugin.__subclasses__() for name in dir(kind)}
    for kind in (kind for kind in kinds if kind.__module__ != interfaces.__name__):
        for name, value in vars(kind).items():
            pending.append(value)
            if isinstance(value, CONSTANTS) and not name.startswith("__") and name not in shadowed:
                yield f"{kind.__qualname__}.{name}", value, False
            shadowed.add(name)
    seen: set[int] = set()
    while pending:
        for inner in _functions(pending.pop()):
            if id(inner) in seen:
                continue
            seen.add(id(inner))
            for name, value, needed in _read(inner):
                if needed and (isinstance(value, (type, types.ModuleType)) or _functions(value)):
                    pending.append(value)
                elif needed or isinstance(value, CONSTANTS):
                    yield f"{inner.__qualname__}: {name}", value, needed
            pending.extend(_called(inner))


def _functions(value: Any) -> list[types.FunctionType]:
    """Return the functions of a member of a class: its own, those of a property, of a step."""
    inner = next((part for name in ("function", "__func__", "fget", "func") if (part := _part(value, name))), value)
    return [inner] if isinstance(inner, types.FunctionType) else []


def _part(value: Any, name: str) -> Any:
    kinds = (staticmethod, classmethod, property, functools.cached_property, types.MethodType, Wrapper)
    return getattr(value, name, None) if isinstance(value, kinds) else None


def _read(function: types.FunctionType) -> Iterator[tuple[str, Any, bool]]:
    """Yield what a function closes over and was given as attributes, and of a plugin file the globals that it names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents, True
        except ValueError:  # not set yet
            continue
    yield from ((name, value, False) for name, value in vars(function).items() if not name.startswith("__"))
    if "__ddbench_file__" in function.__globals__:
        for name in sorted(_names(function.__code__)):
            if isinstance(value := function.__globals__.get(name), SIMPLE):
                yield name, value, False


def _called(function: types.FunctionType) -> Iterator[Any]:
    """Yield the functions of a plugin file that one of them names."""
    if "__ddbench_file__" in function.__globals__:
        for name in _names(function.__code__):
            value = function.__globals__.get(name)
            if getattr(value, "__module__", None) == function.__module__:
                yield value


def _names(code: types.CodeType) -> set[str]:
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))
