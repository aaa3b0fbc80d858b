"""Readable class names: of known ImageNet synsets, and from a user's file."""

from __future__ import annotations

import csv
import importlib.resources
import importlib.util
import json
import re
import tomllib
import unicodedata
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ddbench import DataError
from ddbench.files import read_text

#: Files looked for inside a folder of images.
FILES = ("names.txt", "names.toml", "classes.json")
#: Where an id may end in a line of text.
ENDS = re.compile(r"[ \t,;:]")
LAYOUT = "Give each class a line '<class folder> <name>', or write a TOML or JSON table from class folders to names."

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
    package = importlib.util.find_spec("timm")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder, "data", "_info", name)
        if path.is_file():
            return path.read_text("utf-8")
    raise DataError(f"timm's table {name} is not there.", hint="Install timm, which ddbench depends on, again.")


def guess(class_id: str) -> str:
    """Return the name of a known synset, else the folder name with spaces for underscores."""
    if SYNSET.fullmatch(class_id):
        return lemma(class_id)
    return class_id.replace("_", " ").strip() or class_id


def composed(text: str) -> str:
    """Return a text with its accents written in one of the two ways of Unicode, in which texts are compared."""
    return unicodedata.normalize("NFC", text)


def read_names(path: Path, class_ids: Sequence[str]) -> tuple[str, ...]:
    """Return one readable name per class id, found by the id and never by position.

    Accepted: ``.toml`` and ``.json`` tables from id to name, and text with lines ``<id> <name>``, in which the id ends
    at a space, a tab, a comma, a semicolon or a colon. Entries of other classes are left alone. Of several synonyms
    separated by commas the first is used. A list of the ids themselves, in whatever order, adds no name.

    Raises:
        DataError: the file cannot be read, names are missing, or a line can be of two classes.
    """
    text = read_text(path, DataError)
    try:
        pairs = _pairs(path.suffix.lower(), text, class_ids)
    except (ValueError, RecursionError) as error:
        raise DataError(f"The class names in {path.name} cannot be read: {error}.", hint=LAYOUT) from error
    named: dict[str, str] = {}
    for key, name in pairs:
        if named.setdefault(key, name) != name:
            raise DataError(f"{path.name} names class {key!r} twice: {named[key]!r} and {name!r}.", hint=LAYOUT)
    lacking = [name for name in class_ids if name not in named]
    if lacking:
        raise DataError(
            f"{path.name} has no name for class {lacking[0]!r} ({len(lacking)} of {len(class_ids)} missing).",
            hint=f"{LAYOUT} Names without folders are not taken: which of them is whose is anybody's guess.",
        )
    names = tuple(named[name].partition(",")[0].strip() for name in class_ids)
    if empty := [key for key, name in zip(class_ids, names, strict=True) if not name]:
        raise DataError(f"{path.name} has an empty name for class {empty[0]!r}.", hint=LAYOUT)
    if all(name.isdecimal() for name in names) and names != tuple(class_ids):
        raise DataError(f"{path.name} has numbers for names, such as {names[0]!r} for {class_ids[0]!r}.", hint=LAYOUT)
    return names


def _pairs(suffix: str, text: str, class_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return ids, composed, and their names."""
    if suffix in (".toml", ".json"):
        table = tomllib.loads(text) if suffix == ".toml" else json.loads(text, object_pairs_hook=_table)
        names = table.get("names", table) if suffix == ".toml" else table
        if not isinstance(names, dict):
            raise ValueError("it is no table from class folders to names")
        if odd := [key for key, name in names.items() if not isinstance(name, str) and composed(key) in class_ids]:
            raise ValueError(f"the name of {odd[0]!r} is no text")
        return [(composed(key), name) for key, name in names.items() if isinstance(name, str)]
    known = set(class_ids)
    lines = [line for row in composed(text).splitlines() if (line := row.strip()) and not line.startswith("#")]
    if sorted(lines) == sorted(known):
        return [(line, guess(line)) for line in lines]
    return [pair for line in lines for pair in _line(line, known)]


def _line(line: str, known: Collection[str]) -> list[tuple[str, str]]:
    """Return id and name of a line, or nothing if it is of no known class."""
    ends = [match.start() for match in ENDS.finditer(line)]
    ids = [line[:end] for end in ends if line[:end] in known]
    if len(ids) > 1:
        raise ValueError(f"{line!r} may be of class {' or '.join(map(repr, ids))}")
    return [(key, line[len(key) + 1 :].lstrip(" \t,;:").strip()) for key in ids]


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON table, of which Python's reader would keep the last of equal keys."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key stands in it twice")
    return table
