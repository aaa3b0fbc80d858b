"""Names of experiments as people read them: a plugin with the options that set it apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ddbench.escaping import one_line
from ddbench.results.schema import SNAPSHOTS, Cell


def value_text(value: Any) -> str:
    """Write an option's value shortly."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables: ``{"teacher": {"epochs": 3}}`` → ``{"teacher.epochs": 3}``."""
    flattened: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flattened |= flat(value, f"{prefix}{key}.")
        else:
            flattened[prefix + key] = value
    return flattened


def label(name: str, options: Mapping[str, Any]) -> str:
    """Return a name with options: ``vlcp (strength=0.6)``; which snapshots were kept is left out."""
    shown = {key: value for key, value in options.items() if key != SNAPSHOTS}
    listed = ", ".join(f"{key}={value_text(value)}" for key, value in sorted(shown.items()))
    return f"{name} ({listed})" if listed else name


def explicit_of(cell: Cell) -> dict[str, Any]:
    """Return the options that were set for a cell's method and for the plugins it uses."""
    return {**cell.method.explicit, **flat(cell.other_options)}


def label_of(cell: Cell) -> str:
    """Return a cell's method with the options that were set for it, as tables show it."""
    return label(cell.method.name, explicit_of(cell))
