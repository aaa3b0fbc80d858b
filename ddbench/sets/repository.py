"""Which distilled sets a repository holds, by the names of its files and its card; nothing is read but names.

A repository on the hub and a local copy of it are looked at alike, and only files of the set that is meant are fetched.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ddbench.errors import DataError, UsageError, unknown
from ddbench.files.reading import is_text
from ddbench.sets import folder as disk
from ddbench.sets import tensors, trees
from ddbench.sets.card import Card

#: Files of a repository: ImageNet itself has 1.3 million.
MOST_FILES = 2_000_000
#: Sets that a message lists.
LISTED = 12
FORMATS = "distilled.json, parquet files, a .zip of class folders, class folders, or files of tensors"
#: The set that lies in a repository itself, where others lie below it.
ROOT = "."
#: Where the hub's libraries put parquet files.
DATA = "data"
SHARD = re.compile(r"(?:.*[-_.])?(\d{5})-of-(\d{5})(?:[-_.].*)?")
#: Parquet files that hold other than training images, by their names.
OTHER_SPLIT = re.compile(r"(?:^|[-_.])(?:test|val|valid|validation|eval|dev)(?:[-_.]|$)")


@dataclass(frozen=True)
class Found:
    """A set in a repository.

    Attributes:
        kind: how it is stored; ``own``: as ddbench writes and pushes sets.
        name: what the user writes behind the colon: a configuration, a folder or a file; "" for all of the repository.
        files: its files.
        class_names: names of the label numbers in their order, where the card states them.
    """

    kind: Literal["own", "parquet", "zip", "pictures", "tensors"]
    name: str
    files: tuple[str, ...]
    class_names: tuple[str, ...] = ()

    @property
    def patterns(self) -> list[str]:
        """Patterns of the files to fetch: few, as a set may have a hundred thousand files."""
        if self.kind not in ("own", "pictures"):
            return [glob.escape(file) for file in self.files]
        prefix = f"{glob.escape(self.name)}/" if self.name else ""
        if self.kind == "own":
            return [f"{prefix}*"]
        return sorted({f"{prefix}*{glob.escape(PurePosixPath(file).suffix)}" for file in self.files})


def check_names(names: Iterable[str], what: str) -> list[str]:
    """Return names of files that can lie below a folder.

    Raises:
        DataError: one leads elsewhere or is no name, or there are too many.
    """
    checked = []
    for name in names:
        parts = name.split("/")
        bad = not is_text(name) or not name.isprintable() or "\\" in name or len(name) > 1024
        if bad or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
            raise DataError(f"{what} names a file {ascii(name)[:80]}, which is no place below it.")
        checked.append(name)
        if len(checked) > MOST_FILES:
            raise DataError(f"{what} has more than {MOST_FILES:,} files.")
    return checked


def listing(root: Path) -> list[str]:
    """Return the names of the files below a folder; links to folders are not followed."""
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return check_names((path.as_posix() for path in sorted(files) if not _hidden(path.parts)), root.name)


def choose(names: Collection[str], card: Card, config: str, address: str) -> Found:
    """Return the only set of a repository, or the one that is named.

    Args:
        names: of all files.
        card: of the repository.
        config: a configuration of the card, a folder or a file; "" where the repository holds one set.
        address: what the user wrote without it.

    Raises:
        DataError: there is no set.
        UsageError: there are several and none is named, or none of that name.
    """
    sets = sets_of(names, card)
    if config == ROOT:
        sets = [one for one in sets if not one.name]
    elif config:
        inside = [name for name in names if name == config or name.startswith(f"{config}/")]
        chosen = [one for one in sets if one.name == config] or _inside(inside, names, sets, card)
        if not chosen:
            if inside:
                raise DataError(f"{address}:{config} holds no distilled set.", hint=f"It would be {FORMATS}.")
            raise unknown("set", config, [one.name for one in sets], hint=_listed(sets, address))
        sets = chosen
    if not sets:
        raise DataError(f"{address} holds no distilled set.", hint=f"It would be {FORMATS}.")
    if len(sets) > 1:
        raise UsageError(
            f"{address}{f':{config}' if config else ''} holds {len(sets)} sets.", hint=_listed(sets, address)
        )
    return sets[0]


def sets_of(names: Collection[str], card: Card) -> list[Found]:
    """Return all sets of a repository.

    Raises:
        DataError: parts of a set of parquet files are missing.
    """
    left = [name for name in sorted(names) if not _hidden(name.split("/"))]
    own = sorted(_folder(name) for name in left if PurePosixPath(name).name == disk.FILE)
    own = [place for place in own if not any(place != other and _below(place, other) for other in own)]
    sets = [Found("own", place, tuple(name for name in left if _below(name, place))) for place in own]
    left = [name for name in left if not any(_below(name, place) for place in own)]
    sets += _parquet([name for name in left if name.endswith(".parquet")], card)
    sets += [Found("zip", name, (name,)) for name in left if name.lower().endswith(".zip")]
    sets += [Found("tensors", name, files) for name, files in _tensors(left)]
    return sets + _pictures([name for name in left if PurePosixPath(name).suffix.lower() in trees.SUFFIXES])


def _parquet(names: Sequence[str], card: Card) -> list[Found]:
    sets = []
    for config, patterns in card.configs.items():
        if files := tuple(name for name in names if _matches(name, patterns)):
            sets.append(Found("parquet", config, _whole(files, config), card.class_names.get(config, ())))
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if not _matches(name, card.patterns):
            parent = PurePosixPath(name).parent
            groups[_folder(parent.as_posix() if parent.name == DATA else name)].append(name)
    for place, shards in groups.items():
        training = [name for name in shards if not OTHER_SPLIT.search(PurePosixPath(name).stem)] or shards
        sets.append(Found("parquet", place, _whole(tuple(training), place or "the repository"), _stated(card)))
    return sets


def _inside(inside: Sequence[str], names: Collection[str], sets: Sequence[Found], card: Card) -> list[Found]:
    """Return the sets of a folder or a file; what the card says of them holds there, too."""
    known = [one for one in sets if set(one.files) <= set(inside)]
    return known or sets_of(_with_siblings(inside, names), Card(class_names=card.class_names))


def _stated(card: Card) -> tuple[str, ...]:
    """Return the class names that hold for files which no configuration has.

    Raises:
        UsageError: its configurations have several.
    """
    stated = set(card.class_names.values())
    if len(stated) > 1:
        raise UsageError(
            "The card names the classes of its configurations differently, and none of them has these files.",
            hint=f"Name one: {', '.join(list(card.class_names)[:LISTED])}.",
        )
    return next(iter(stated), ())


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _whole(files: tuple[str, ...], what: str) -> tuple[str, ...]:
    """Return numbered parts in order.

    Raises:
        DataError: one is missing.
    """
    parts = [match for name in files if (match := SHARD.fullmatch(PurePosixPath(name).stem))]
    if len(parts) == len(files) and (counts := {match[2] for match in parts}):
        count = int(max(counts))
        if len(counts) > 1 or sorted(int(match[1]) for match in parts) != list(range(count)):
            raise DataError(
                f"{what} has {len(files)} parquet files that are not the parts 0 … {count - 1} of one set.",
                hint="Fetch those that are missing, or name the folder of one set.",
            )
    return files


def _tensors(names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return files of tensors that may hold images, with those of their labels and learned rate."""
    paths = {Path(name) for name in names if PurePosixPath(name).suffix in tensors.SUFFIXES}
    beside = {path: [other for word in ("labels", "lr") if (other := tensors.sibling(path, word))] for path in paths}
    parts = {other for path, others in beside.items() for other in others if other != path}
    return [
        (path.as_posix(), (path.as_posix(), *(other.as_posix() for other in beside[path] if other in paths)))
        for path in sorted(paths - parts)
    ]


def _pictures(names: Sequence[str]) -> list[Found]:
    """Return trees of at least two class folders, and folders of pictures that are named by class."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[_folder(name)].append(name)
    roots: dict[str, list[str]] = defaultdict(list)
    flat = []
    for place, files in folders.items():
        classes = {match[1] if (match := trees.PICTURE.match(PurePosixPath(name).stem)) else None for name in files}
        if None not in classes and len(classes) > 1:
            flat.append(Found("pictures", place, tuple(files)))
        elif place:
            roots[_folder(place)].append(place)
    return flat + [
        Found("pictures", root, tuple(name for place in classes for name in folders[place]))
        for root, classes in sorted(roots.items())
        if len(classes) > 1
    ]


def _with_siblings(inside: Sequence[str], names: Collection[str]) -> list[str]:
    """Return a named file of tensors with those beside it that belong to it."""
    if len(inside) != 1:
        return list(inside)
    path = Path(inside[0])
    beside = [other.as_posix() for word in ("labels", "lr") if (other := tensors.sibling(path, word))]
    return [*inside, *(name for name in beside if name in names and name != inside[0])]


def _listed(sets: Sequence[Found], address: str) -> str:
    if not sets:
        return f"It holds no distilled set: {FORMATS}."
    shown = ", ".join(f"{address}:{one.name or ROOT}" for one in sets[:LISTED])
    return f"Name one: {shown}{' …' if len(sets) > LISTED else ''}."


def _folder(name: str) -> str:
    place = PurePosixPath(name).parent.as_posix()
    return "" if place == "." else place


def _below(name: str, place: str) -> bool:
    return not place or name == place or name.startswith(f"{place}/")


def _hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in parts)
