"""Trained models as files to hand on: a finished step in an archive with a manifest, checked before it is taken.

An artefact is an uncompressed zip archive (or a folder with the same files): ``manifest.json`` with the size and
SHA-256 of every other file, ``step.json``, which says what the model depends on, and the step's files. The same step
makes the same bytes. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import re
import shutil
import stat
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ddbench.errors import DataError, UsageError
from ddbench.escaping import one_line
from ddbench.files.locks import patiently
from ddbench.files.reading import check_file, damaged_files, first_line
from ddbench.files.writing import explained, sync, sync_entry
from ddbench.keys import digest
from ddbench.plugin.manager import GROUP, Plugins
from ddbench.runtime.leftovers import size
from ddbench.runtime.steps import CachedStep
from ddbench.runtime.store import MARKER, Done, Store, lease_of
from ddbench.sets.archives import DAMAGED
from ddbench.sets.repository import check_names

MANIFEST = "manifest.json"
#: Endings of files that hold numbers and text only.
SUFFIXES = (".safetensors", ".json", ".jsonl", ".txt", ".npy")
#: Bytes of a model, of its manifest or marker; files of it; bytes copied at a time; seconds a server may be silent.
MOST, MOST_TEXT, MOST_FILES, CHUNK, SILENCE = 16 * 2**30, 16 * 2**20, 1000, 2**20, 60
#: Time of every file in an archive, so that the same model makes the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
AGAIN = "Ask for the file again, or pack the model again with `ddbench models pack`."
SHA256 = re.compile(r"[0-9a-f]{64}")


class Listed(BaseModel):
    """A file of an artefact."""

    model_config = ConfigDict(strict=True, extra="forbid")
    bytes: Annotated[int, Field(ge=0, le=MOST)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """What an artefact says of itself."""

    model_config = ConfigDict(strict=True, extra="forbid")
    format: Literal["ddbench-model"]
    version: Literal[1]
    step: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    files: Annotated[dict[str, Listed], Field(max_length=MOST_FILES)]


@dataclass(frozen=True)
class Model:
    """A trained model on this machine.

    Attributes:
        what: in a word or two.
        dataset: that it was trained on.
        name: step and beginning of its key, as ``ddbench models pack`` takes it; "" of one that comes with a plugin.
        digest: of its content.
        bytes: its size.
        made: what made it, and where numbers differ: on which device in which precision.
        path: where it is.
    """

    what: str
    dataset: str
    name: str
    digest: str
    bytes: int
    made: str
    path: Path


def models(store: Store, plugins: Plugins) -> list[Model]:
    """Return the models that come with plugins, then those in the artifact folder."""
    found = []
    for one in (one for offered in plugins.manager.hook.ddbench_models() for one in offered):
        files = sorted(path for path in one.path.rglob("*") if path.is_file()) or [one.path]
        content = digest([[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files])
        large = sum(path.stat().st_size for path in files)
        found.append(Model(one.what, one.dataset, "", content[:12], large, one.made, one.path))
    for done in trained(store):
        about, name = done.marker["about"], f"{done.name}/{done.key[:12]}"
        content, large = digest(done.marker["files"]), size(done.dir)
        found.append(
            Model(about["model"], about.get("dataset", ""), name, content[:12], large, made_on(done), done.dir)
        )
    return found


def trained(store: Store) -> Iterator[Done]:
    """Yield the finished steps in the artifact folder that are trained models."""
    kinds = sorted(path.name for path in store.root.iterdir() if path.is_dir()) if store.root.is_dir() else []
    for kind in kinds:
        yield from (done for done in store.finished(kind) if done.marker.get("about", {}).get("model"))


def made_on(done: Done) -> str:
    """Return on what a model was trained: only runs on the same find it."""
    numerics = done.marker["inputs"].get("run", {}).get("numerics", {})
    return ", ".join(str(value) for value in numerics.values())


def named(store: Store, name: str) -> Done:
    """Return the model of a name that ``ddbench models list`` shows, or of the beginning of its key.

    Raises:
        UsageError: there is none, or several.
    """
    kind, _, key = name.rpartition("/")
    found = [done for done in trained(store) if done.name == (kind or done.name) and done.key.startswith(key)]
    if len(found) != 1:
        raise UsageError(
            f"{len(found) or 'No'} trained models are called {name!r}.", hint="`ddbench models list` names them."
        )
    return found[0]


def pack(done: Done, out: Path) -> Path:
    """Write a model into a folder as an archive that is named by its data set, step and SHA-256; return its path.

    Raises:
        DataError: it holds a file of another kind.
        StorageError: the folder cannot be written.
    """
    names = [*done.marker["files"], MARKER]
    _check_kinds(names, f"The model {done.name}")
    files = {}
    for name in sorted(names):
        with (done.dir / name).open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = {"bytes": (done.dir / name).stat().st_size, "sha256": sha}
    manifest = {"format": "ddbench-model", "version": 1, "step": done.name, "key": done.key, "files": files}
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".packing-") as folder:
            path = Path(folder) / "model.zip"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(zipfile.ZipInfo(MANIFEST, EPOCH), json.dumps(manifest, indent=1))
                for name in files:
                    with (done.dir / name).open("rb") as source, _entry(archive, name, files[name]["bytes"]) as target:
                        shutil.copyfileobj(source, target, CHUNK)
            with path.open("rb") as file:
                sha = hashlib.file_digest(file, "sha256").hexdigest()
            dataset = re.sub(r"[^a-z0-9-]", "-", done.marker.get("about", {}).get("dataset", "").lower())
            final = out / f"{'-'.join(filter(None, (dataset, done.name)))}-{sha[:12]}.zip"
            path.replace(final)
    return final


def _entry(archive: zipfile.ZipFile, name: str, size: int) -> IO[bytes]:
    about = zipfile.ZipInfo(name, EPOCH)
    about.file_size = size
    return archive.open(about, "w")


@contextlib.contextmanager
def fetched(source: str, sha256: str = "") -> Iterator[Path]:
    """Give the file or folder of a source, downloaded while the block runs where it is an address.

    Args:
        source: a path, or an address with ``#sha256=…`` behind it.
        sha256: of the file.

    Raises:
        UsageError: an address without a digest.
        DataError: it is not there, too large, or another file than was meant.
    """
    address, _, fragment = source.partition("#sha256=")
    wanted = (sha256 or fragment).lower()
    if wanted and not SHA256.fullmatch(wanted):
        raise UsageError(f"{wanted[:80]!r} is no SHA-256.", hint="It has 64 hexadecimal digits.")
    if not address.startswith(("https://", "http://")):
        path = Path(address).expanduser()
        if wanted and path.is_dir():
            raise UsageError("A folder has no SHA-256.", hint="Give the archive, or leave the digest out.")
        if wanted:
            check_file(path)
            with path.open("rb") as file:
                _check_digest(hashlib.file_digest(file, "sha256").hexdigest(), wanted, path.name)
        yield path
        return
    if not wanted:
        raise UsageError(
            "A model from the network needs the digest of its file.",
            hint="Give --sha256, or write #sha256=… behind the address, as its author tells it.",
        )
    with tempfile.TemporaryDirectory(prefix="ddbench-model-") as folder:
        path, size, content = Path(folder) / "model.zip", 0, hashlib.sha256()
        try:
            with urllib.request.urlopen(address, timeout=SILENCE) as answer, path.open("wb") as file:
                while chunk := answer.read(CHUNK):
                    size += len(chunk)
                    if size > MOST:
                        raise DataError(f"{address} is larger than {MOST / 2**30:.0f} GiB.")
                    content.update(chunk)
                    file.write(chunk)
        except (OSError, ValueError) as error:
            raise DataError(f"{address} cannot be fetched: {one_line(first_line(error))}") from error
        _check_digest(content.hexdigest(), wanted, address)
        yield path


def _check_digest(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise DataError(f"{what} is another file than was meant: its SHA-256 begins with {found[:12]}.", hint=AGAIN)


def add(store: Store, plugins: Plugins, path: Path) -> Done:
    """Take a model of an archive or a folder into the artifact folder, where runs find it; whole or not at all.

    Raises:
        DataError: it is damaged, no such artefact, of another version, or holds what no model holds.
        StorageError: the folder is full or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        files = _folder(path) if path.is_dir() else _archive(path, stack)
        manifest = _manifest(files, path.name)
        free = shutil.disk_usage(store.root if store.root.exists() else Path.home()).free
        total = sum(listed.bytes for listed in manifest.files.values())
        if total > min(MOST, free):
            raise DataError(f"{path.name} needs {total / 1e9:.1f} GB; {min(MOST, free) / 1e9:.1f} GB may be used.")
        final = store.path(manifest.step, manifest.key)
        with explained(store.root):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=store.root, prefix=".adding-")))
            folder = temporary / "step"
            for name, listed in manifest.files.items():
                _copy(files[name], folder / name, listed, f"{name} in {path.name}")
            inputs = _check_step(folder, manifest, path.name, plugins)
            with patiently(lease_of(final), lambda: f"step {manifest.step}", store.warn):
                if done := store.get(manifest.step, inputs):
                    return done
                sync(folder)
                folder.rename(final)
                sync_entry(final.parent)
    done = store.get(manifest.step, inputs)
    if done is None:
        raise DataError(f"{path.name} is no finished step.", hint=AGAIN)
    return Done(done.name, done.key, done.dir, done.marker, reused=False)


Opened = Callable[[], IO[bytes]]


def _archive(path: Path, stack: contextlib.ExitStack) -> Mapping[str, Opened]:
    """Return the files of an archive; it must be one that holds no more bytes than it has."""
    check_file(path)
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = archive.infolist()
    except DAMAGED as error:
        raise DataError(f"{path.name} is no archive of a model: {one_line(first_line(error))}", hint=AGAIN) from error
    check_names([member.filename for member in members], path.name)
    if len({member.filename for member in members}) < len(members):
        raise DataError(f"{path.name} has two files of one name.", hint=AGAIN)
    for member in members:
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise DataError(f"{path.name} has a link or a device, {member.filename[:80]}.", hint=AGAIN)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise DataError(f"{path.name} is compressed or encrypted, which no artefact is.", hint=AGAIN)
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise DataError(f"{path.name} would unpack to more than it holds.", hint=AGAIN)
    return {member.filename: lambda member=member: archive.open(member) for member in members}  # type: ignore[misc]


def _folder(path: Path) -> Mapping[str, Opened]:
    """Return the files of an unpacked artefact; links are refused."""
    found = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise DataError(f"{path.name} has a link or a device, {name[:80]}.", hint=AGAIN)
        if file.is_file():
            found[name] = lambda file=file: file.open("rb")
    check_names(found, path.name)
    return found


def _manifest(files: Mapping[str, Opened], what: str) -> Manifest:
    """Read what an artefact says of itself, and refuse it where its files are others."""
    if MANIFEST not in files:
        raise DataError(f"{what} is no artefact of `ddbench models pack`: it has no {MANIFEST}.", hint=AGAIN)
    try:
        with files[MANIFEST]() as file:
            text = file.read(MOST_TEXT + 1)
        if len(text) > MOST_TEXT:
            raise ValueError(f"it has more than {MOST_TEXT:,} bytes")
        content = json.loads(text)
        if isinstance(content, dict) and content.get("format") == "ddbench-model" and content.get("version") != 1:
            raise DataError(
                f"{what} is of version {str(content.get('version'))[:20]} of the format; this ddbench reads version 1.",
                hint="Install the ddbench that packed it, or ask for one that this one reads.",
            )
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"The {MANIFEST} of {what} is wrong: {one_line(where)}: {first['msg']}.", hint=AGAIN) from error
    except (*DAMAGED, RecursionError) as error:
        raise DataError(
            f"The {MANIFEST} of {what} cannot be read: {one_line(first_line(error))}", hint=AGAIN
        ) from error
    check_names(manifest.files, what)
    _check_kinds(manifest.files, what)
    if odd := sorted({*manifest.files, MANIFEST} ^ set(files)):
        raise DataError(f"{what} and its {MANIFEST} do not hold the same files: {odd[0][:80]}.", hint=AGAIN)
    if MARKER not in manifest.files or manifest.files[MARKER].bytes > MOST_TEXT:
        raise DataError(f"{what} has no {MARKER} that says what the model is.", hint=AGAIN)
    return manifest


def _check_kinds(names: Any, what: str) -> None:
    for name in names:
        if not name.endswith(SUFFIXES):
            raise DataError(
                f"{what} holds {ascii(name)[:80]}; models are handed on as {', '.join(SUFFIXES)}.",
                hint="Other files may hold code, or are no part of a model.",
            )


def _copy(source: Opened, target: Path, listed: Listed, what: str) -> None:
    """Copy a file as far as it was told to go, and refuse it where it is another."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size, content = 0, hashlib.sha256()
    try:
        with source() as file, target.open("xb") as out:
            while chunk := file.read(CHUNK):
                size += len(chunk)
                if size > listed.bytes:
                    break
                content.update(chunk)
                out.write(chunk)
    except (EOFError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{what} is damaged: {one_line(first_line(error))}", hint=AGAIN) from error
    if size != listed.bytes or content.hexdigest() != listed.sha256:
        raise DataError(f"{what} is not what was packed.", hint=AGAIN)


def _check_step(folder: Path, manifest: Manifest, what: str, plugins: Plugins) -> Mapping[str, Any]:
    """Return what the model depends on; refuse one that this ddbench would not have made itself."""
    try:
        marker = json.loads((folder / MARKER).read_text("utf-8"))
        inputs, about = dict(marker["inputs"]), dict(marker["about"])
        same = marker["key"] == manifest.key == digest(inputs) and marker["step"] == manifest.step
        listed = {*marker["files"], MARKER} == set(manifest.files)
        function, version = str(inputs["function"]), inputs["version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"The {MARKER} of {what} cannot be read: {one_line(first_line(error))}", hint=AGAIN) from error
    if not (same and listed):
        raise DataError(f"{what} is not the step that its {MARKER} describes.", hint=AGAIN)
    step = declared(function, plugins)
    if step is None or step.name != manifest.step or not step.model or about.get("model") != step.model:
        raise DataError(
            f"{what} is of a step {function[:120]!r}, which leaves no model in any installed plugin.",
            hint="Install the plugin that trained it.",
        )
    if step.version != version:
        raise DataError(
            f"{what} is of version {version} of the step {step.name}; that of this ddbench is {step.version}.",
            hint="No run would use it. Train it again with `ddbench models build`.",
        )
    if problems := [*damaged_files(folder), *_arrays(folder)]:
        raise DataError(f"{what}: {problems[0]}", hint=AGAIN)
    return inputs


def _arrays(folder: Path) -> Iterator[str]:
    import numpy as np

    for path in folder.rglob("*.npy"):
        try:
            np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            yield f"{path.name} is no array of numbers ({one_line(first_line(error))})"


def declared(place: str, plugins: Plugins) -> CachedStep[Any] | None:
    """Return the step that a package of an installed plugin declares at a place (``module:name``); else None."""
    from importlib.metadata import entry_points

    module, _, name = place.partition(":")
    packages = {point.module.partition(".")[0] for point in entry_points(group=GROUP)}
    if module.partition(".")[0] not in packages or not re.fullmatch(r"[\w.]+", module):
        return None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = vars(found)[part]
    except (ImportError, KeyError, TypeError):
        return None
    return found if isinstance(found, CachedStep) else None
