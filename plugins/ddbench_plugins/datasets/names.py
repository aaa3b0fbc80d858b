"""Readable class names: of known ImageNet synsets, and from a user's file."""

from __future__ import annotations

import importlib.resources
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ddbench.errors import DataError

#: Files looked for inside a folder of images.
FILES = ("names.txt", "names.toml", "classes.json")


@cache
def synsets() -> dict[str, dict[str, str]]:
    """Return readable names of ImageNet synset ids, per published class list."""
    text = importlib.resources.files("ddbench_plugins.datasets").joinpath("synsets.toml").read_text("utf-8")
    return tomllib.loads(text)


def guess(class_id: str) -> str:
    """Return the name of a known synset, else the folder name with spaces for underscores."""
    for table in synsets().values():
        if class_id in table:
            return table[class_id]
    return class_id.replace("_", " ").strip() or class_id


def read_names(path: Path, class_ids: Sequence[str]) -> tuple[str, ...]:
    """Return one readable name per class id.

    Accepted: ``.toml`` and ``.json`` tables from id to name (a JSON list of names in class order, too); text with lines
    ``<id> <name>``, or one name per line in class order. Of several synonyms separated by commas the first is used.

    Raises:
        DataError: the file cannot be read, or names are missing.
    """
    try:
        text = path.read_text("utf-8")
        found = _parse(path.suffix.lower(), text, class_ids)
    except (OSError, ValueError) as error:
        raise DataError(f"The class names in {path.name} cannot be read: {error}") from error
    if isinstance(found, Mapping):
        lacking = [name for name in class_ids if name not in found]
        if lacking:
            raise DataError(f"{path.name} has no name for class {lacking[0]!r} ({len(lacking)} missing in all).")
        found = [found[name] for name in class_ids]
    if len(found) != len(class_ids):
        raise DataError(f"{path.name} has {len(found)} names for {len(class_ids)} classes.")
    return tuple(str(name).partition(",")[0].strip() for name in found)


def _parse(suffix: str, text: str, class_ids: Sequence[str]) -> Mapping[str, Any] | Sequence[Any]:
    if suffix == ".toml":
        table = tomllib.loads(text)
        names: Mapping[str, Any] = table.get("names", table)
        return names
    if suffix == ".json":
        content = json.loads(text)
        if not isinstance(content, (dict, list)):
            raise ValueError("neither a table nor a list")
        return content
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pairs = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2)
    return pairs if set(class_ids) <= set(pairs) else lines
