"""Readable class names: of known ImageNet synsets, and from a user's file."""

from __future__ import annotations

import csv
import importlib.resources
import importlib.util
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ddbench.errors import DataError

#: Files looked for inside a folder of images.
FILES = ("names.txt", "names.toml", "classes.json")


SYNSET = re.compile(r"n\d{8}")


@cache
def synsets() -> dict[str, dict[str, str]]:
    """Return readable names of ImageNet synset ids, per published class list in its order (see synsets.toml)."""
    text = importlib.resources.files("ddbench_plugins.datasets").joinpath("synsets.toml").read_text("utf-8")
    return tomllib.loads(text)


def class_list(name: str) -> dict[str, str]:
    """Return synset ids and readable names of a class list in label order; ImageNet-1K's is timm's."""
    lists = synsets()
    return lists[name] if name in lists else {synset: lemma(synset) for synset in imagenet()}


def imagenet() -> list[str]:
    """Return the thousand synset ids of ImageNet-1K in label order, which is the sorted one."""
    return _timm("imagenet_synsets.txt").split()


@cache
def _lemmas() -> dict[str, str]:
    rows = csv.reader(_timm("imagenet_synset_to_lemma.txt").splitlines(), delimiter="\t")
    return {row[0]: row[1] for row in rows}


def lemma(synset: str) -> str:
    """Return the first synonym of any ImageNet synset, or the id if it is unknown."""
    return _lemmas().get(synset, synset).partition(",")[0]


def _timm(name: str) -> str:
    """Read a table of ``timm.data.ImageNetInfo``; the file, because importing timm takes seconds."""
    found = importlib.util.find_spec("timm")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder, "data", "_info", name)
        if path.is_file():
            return path.read_text("utf-8")
    raise DataError(f"timm's table {name} is not there.", hint="Install timm, which ddbench depends on, again.")


def guess(class_id: str) -> str:
    """Return the name of a known synset, else the folder name with spaces for underscores."""
    if SYNSET.fullmatch(class_id):
        return lemma(class_id)
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
