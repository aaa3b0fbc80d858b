"""Options as keys and records hold them: files and folders by what is in them, never by where they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench.errors import DataError, PluginError
from ddbench.keys import digest
from ddbench.plugin.contracts import PLAIN, not_plain
from ddbench.plugin.manager import plugin_errors
from ddbench.plugin.options import FILE, Options, marker

if TYPE_CHECKING:
    from ddbench.plugin.manager import Entry
    from ddbench.runtime.context import Context
    from ddbench.runtime.progress import Reporter
    from ddbench.runtime.store import Step, Store

#: Files from here on are read once; their digest is remembered until size or times change.
LARGE = 64 * 2**20
#: Files in a folder up to which their content is read; of larger ones, names and sizes count.
MANY = 10_000
#: Bytes read at a time.
CHUNK = 2**20
#: Kinds of plugins that options name.
NAMED = ("network", "captioner")
#: Hexadecimal digits of a file's digest in a record: enough to tell any two apart.
SHOWN = 16


def content_digest(path: Path, store: Store, reporter: Reporter) -> str:
    """Return the sha256 of a file, or of a folder's regular files with their relative names (beyond MANY, their sizes).

    Args:
        path: a file or folder.
        store: remembers digests of large files.
        reporter: shows progress.

    Raises:
        DataError: it is not there, is no regular file, or cannot be read.
    """
    try:
        if path.is_dir():
            files = list(_inside(path))
            if len(files) > MANY:
                return digest([[name, file.stat().st_size] for name, file in files])
            return digest([[name, _file(file, store, reporter)] for name, file in files])
        return _file(path, store, reporter)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _inside(folder: Path) -> Iterator[tuple[str, Path]]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _file(path: Path, store: Store, reporter: Reporter) -> str:
    if not path.is_file():
        raise DataError(f"{path} is not a file.")
    state = path.stat()
    if state.st_size < LARGE:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def build(step: Step) -> None:
        read, content = 0, hashlib.sha256()
        with path.open("rb") as file, reporter.task(f"reading {path.name}", state.st_size) as advance:
            while chunk := file.read(CHUNK):
                content.update(chunk)
                advance(read := read + len(chunk))
        step.info["sha256"] = content.hexdigest()

    # The time of the last change of a file's state cannot be set back by a copy, as the time of its content can.
    about = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    inputs = {"path": os.fsencode(path.resolve()).hex(), "state": about}
    return str(store.build("file-digest", inputs, build).info["sha256"])


def by_content(ctx: Context, options: Mapping[str, Any], *, all_files: bool = False) -> dict[str, Any]:
    """Return options with every file or folder named by its last part and its content.

    Args:
        ctx: with the resolved options, whose fields say which of them name files.
        options: option → value.
        all_files: take every text that names an existing file or folder for one.
    """
    model = type(ctx.resolved.values) if ctx.resolved.values is not None else Options
    return {name: told(ctx, value, marker(model, name, FILE), all_files) for name, value in options.items()}


def told(ctx: Context, value: Any, marked: Any = None, all_files: bool = False) -> Any:
    """Return a text, or those of a list, that name files or folders by their content; all else as it is."""
    if isinstance(value, (list, tuple)):
        return [told(ctx, item, marked, all_files) for item in value]
    if not isinstance(value, str) or (isinstance(marked, (list, tuple)) and value in marked):
        return value
    path = Path(value).expanduser()
    likely = bool(marked) or all_files or path.is_absolute() or "/" in value or "\\" in value or bool(path.suffix)
    try:
        there = likely and bool(value) and path.exists()
    except (OSError, ValueError):  # too long for a path, or holding a NUL
        return value
    if there:
        return f"{path.resolve().name}@{ctx.content_digest(path)[:SHOWN]}"
    return path.name if path.is_absolute() else value


def code(entry: Entry) -> dict[str, Any]:
    """Return the version of a plugin's code; of a plugin file, whose author works on it, also its content."""
    return {"version": entry.spec.cache_version, **({"source": entry.owner.source} if entry.owner.source else {})}


def uses(ctx: Context, options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the versions of the networks and captioners that options name."""
    versions: dict[str, Any] = {}
    for name in _texts(options):
        for kind in NAMED:
            known = ctx.plugins.entries[kind]
            if entry := known.get(name) or known.get(name.partition(":")[0] + ":"):
                versions[f"{kind}/{name}"] = code(entry)
    return versions


def used(ctx: Context, kind: str, name: str) -> dict[str, Any]:
    """Return all that the work of another plugin depends on: its code, options and identity, or a network's code.

    Raises:
        UsageError: there is no such plugin.
        PluginError: its identity is no plain data.
    """
    entry = ctx.plugins.get(kind, name)
    if kind == "network":
        return code(entry)
    plugin, mine, entry = ctx.use(kind, name)
    with plugin_errors(entry):
        identity = dict(plugin.identity(mine))
        check_identity(f"{kind.capitalize()} {name}", identity)
    # What a plugin says of its files takes the place of their paths.
    return {**code(entry), "options": {**mine.options_by_content(), **identity}}


def check_identity(who: str, identity: Mapping[str, Any]) -> None:
    """Refuse what has no place in a key.

    Raises:
        PluginError: it is no plain data.
    """
    if mistake := not_plain(identity):
        raise PluginError(f"{who} has an identity that is not plain data: {mistake}.", hint=PLAIN)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text inside plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
