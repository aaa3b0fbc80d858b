"""From what the user names to what is read: repositories on the hub, copies of them, archives, and plain paths."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ddbench.errors import DDBenchError, RecordError, UsageError
from ddbench.files.writing import write_atomic
from ddbench.results.schema import slug
from ddbench.sets import archives, card, hub, parquet, repository
from ddbench.sets import folder as disk
from ddbench.sets.parquet import Tables
from ddbench.sets.pushing.publication import RECORDS
from ddbench.sets.repository import Found

if TYPE_CHECKING:
    from ddbench.sets.card import Card

#: Folders above parquet files in which their card is looked for: data/, or a configuration's.
ABOVE = 2
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """What :func:`ddbench.sets.importing.read_set` takes.

    Attributes:
        path: a folder or a file; temporary where the set is kept in another way.
        name: what to call its method where nothing else does; "" for the path's own name.
        tables: parquet files below ``path`` that hold the set.
        origin: the repository on the hub at its commit, with the set's name in it.
        said: what messages call it; "" for the path's own name.
        records: folder with the records that were pushed with it.
    """

    path: Path
    name: str = ""
    tables: Tables | None = None
    origin: str = ""
    said: str = ""
    records: Path | None = None


def exists(source: str) -> bool:
    """Return whether a path is there; an address of the hub may be."""
    return hub.parse(source) is not None or Path(source).exists() or _split(Path(source)) is not None


@contextlib.contextmanager
def opened(source: Path, *, offline: bool = False, warn: Warn) -> Iterator[Source]:
    """Find the only set of a source, or the one that is named, and give it as files to read.

    Args:
        source: a path, ``FOLDER:CONFIG`` of a local copy of a repository, or ``hf:USER/REPO[@REVISION][:CONFIG]``.
        offline: whether to open no connection.
        warn: told what looks odd.

    Raises:
        DataError: it holds no set, or cannot be fetched or read.
        UsageError: it holds several sets and none is named.
    """
    with every(
        source, lambda names, about, config, said: [repository.choose(names, about, config, said)], offline, warn
    ) as sets:
        yield sets[0]


@contextlib.contextmanager
def pushed(source: Path, *, offline: bool = False, warn: Warn) -> Iterator[list[Source]]:
    """Find the sets that `ddbench push` wrote: all of a repository, or the one that is named.

    Raises:
        DataError, UsageError: as :func:`opened`, or it holds none of these.
    """

    def own(names: Sequence[str], about: Card, config: str, said: str) -> list[Found]:
        chosen = [repository.choose(names, about, config, said)] if config else repository.sets_of(names, about)
        if not (ours := [found for found in chosen if found.kind == "own"]):
            raise UsageError(
                f"{said} holds no set that ddbench wrote.", hint=f"`ddbench import {said}` reads those of others."
            )
        return ours

    with every(source, own, offline, warn) as sets:
        if not (sets[0].path / disk.FILE).exists():
            raise UsageError(f"{source} is no repository that ddbench wrote.", hint="Name one, or one of its sets.")
        yield sets


Choose = Callable[[Sequence[str], "Card", str, str], list[Found]]


@contextlib.contextmanager
def every(source: Path, choose: Choose, offline: bool, warn: Warn) -> Iterator[list[Source]]:
    """Give the chosen sets of a source; what had to be unpacked for them is removed afterwards."""
    with contextlib.ExitStack() as stack:
        if address := hub.parse(str(source)):
            fetched = hub.fetch(
                address,
                lambda names, about: choose(names, about, address.config, str(address)),
                offline=offline,
                warn=warn,
            )
            at = f"{hub.PREFIX}{address.repo}@{fetched.commit}"
            name = address.repo.partition("/")[2]
            sources = [_source(fetched.root, found, name, at, stack, warn) for found in fetched.sets]
        elif (local := _copy(source)) is not None:
            root, config, names = local
            found = choose(names, card.read(root / card.CARD), config, str(root))
            sources = [_source(root, one, root.resolve().name, "", stack, warn) for one in found]
        else:
            sources = [_plain(source, stack, warn)]
        try:
            yield sources
        except DDBenchError as error:
            raise _told(error, sources) from error


def _told(error: DDBenchError, sources: Sequence[Source]) -> DDBenchError:
    """Return an error that names a set as the user does, not where it was unpacked."""
    text = str(error)
    for one in sources:
        text = text.replace(str(one.path), one.said) if one.said else text
    return error if text == str(error) else type(error)(text, hint=error.hint)


def _copy(source: Path) -> tuple[Path, str, list[str]] | None:
    """Return the local copy of a repository that a source is, lies in or names, which set of it, and its files."""
    if split := _split(source):
        return *split, repository.listing(split[0])
    if _is_repository(source):
        root, names = _root(source) or source.absolute(), repository.listing(source)
        if root == source.absolute():
            return source, "", names
        place = source.absolute().relative_to(root).as_posix()
        return root, place, [f"{place}/{name}" for name in names]
    above = _root(source) if source.suffix == ".parquet" and source.is_file() else None
    if above is None:
        return None
    name = source.absolute().relative_to(above).as_posix()
    return above, name, [name]


def _split(source: Path) -> tuple[Path, str] | None:
    """Read ``FOLDER:CONFIG``."""
    folder, colon, config = str(source).rpartition(":")
    if not colon or not config or source.exists() or not Path(folder).is_dir():
        return None
    return Path(folder), config.strip("/")


def _root(source: Path) -> Path | None:
    """Return the folder above parquet files whose card names their classes, which a part of a repository lacks."""
    place = source.absolute()
    for root in (place, *place.parents[:ABOVE]):
        if _has_card(root):
            with contextlib.suppress(DDBenchError):  # above a set, it may be the text of anything
                return root if card.read(root / card.CARD).class_names or root == place else None
    return None


def _has_card(folder: Path) -> bool:
    about = folder / card.CARD
    if not about.is_file():
        return False
    with about.open("rb") as file:
        return file.read(3) == b"---"


def _is_repository(path: Path) -> bool:
    """Return whether a folder is kept as repositories are, not as a set itself."""
    if not path.is_dir():
        return False
    kept = [*path.glob("*.parquet"), *path.glob(f"{repository.DATA}/*.parquet"), *path.glob("*.zip")]
    return bool(kept) or (_has_card(path) and not (path / disk.FILE).exists())


def _plain(path: Path, stack: contextlib.ExitStack, warn: Warn) -> Source:
    """Give a set that is a file or a folder by itself."""
    if path.suffix.lower() == ".zip" and path.is_file():
        return Source(archives.unpack(path, _temporary(stack), warn), path.stem, said=path.name)
    if path.suffix == ".parquet" and path.is_file():
        return Source(path, tables=Tables((path,)))
    return Source(path)


def _source(root: Path, found: Found, name: str, at: str, stack: contextlib.ExitStack, warn: Warn) -> Source:
    """Give a set of a repository."""
    origin = at and f"{at}:{found.name}" if found.name else at
    inside = PurePosixPath(found.name).name.removesuffix(".zip")
    called = slug(f"{name}-{inside}" if inside else name)
    path = root / found.name if found.name else root
    given = Source(path, called, origin=origin, said=origin or inside or name)
    if found.kind == "zip":
        return replace(given, path=archives.unpack(path, _temporary(stack), warn))
    if found.kind == "parquet":
        tables = Tables(tuple(root / file for file in found.files), found.class_names)
        return replace(given, path=root, tables=tables)
    if found.kind == "own":  # it says itself what its method is called
        shards = [root / file for file in found.files if file.endswith(".parquet")]
        records = path / RECORDS if (path / RECORDS).is_dir() else None
        restored = _restored(path, shards, _temporary(stack)) if shards else path
        return replace(given, name="", path=restored, records=records)
    return given


def _temporary(stack: contextlib.ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ddbench-")))


def _restored(pushed: Path, shards: Sequence[Path], folder: Path) -> Path:
    """Write a pushed set as the folder that was pushed: its images lie in parquet files, byte for byte.

    Raises:
        DataError: the parquet files cannot be read.
        RecordError: they are not those of its ``distilled.json``.
    """
    files = disk.image_files(pushed)
    for name in disk.OWN:
        if (pushed / name).is_file():
            write_atomic(folder / name, (pushed / name).read_bytes())
    repository.check_names(files, pushed.name)
    pictures = parquet.pictures(shards) if files else iter(())
    for name in files:
        data = next(pictures, None)
        if data is None:
            raise RecordError(f"{pushed.name} has fewer pictures than its {disk.FILE} lists ({len(files)}).")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    if next(pictures, None) is not None:
        raise RecordError(f"{pushed.name} has more pictures than its {disk.FILE} lists ({len(files)}).")
    return folder
