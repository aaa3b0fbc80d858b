"""Finding the image files of class-folder trees, in an order that does not depend on the file system."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ddbench
from ddbench.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})


@dataclass(frozen=True, slots=True)
class File:
    """One image file.

    Attributes:
        label: class index.
        id: ``<class>/<path in its folder>``, the same wherever the tree is.
        place: where it is.
        size: in bytes.
        changed: time of the last change, in nanoseconds; only says whether to read it again.
    """

    label: int
    id: str
    place: str
    size: int
    changed: int

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.place)


class Files(Sequence[File]):
    """Image files in columns: ImageNet has more than a million, which take three times as much memory as objects.

    Attributes:
        ids, labels: of all of them.
        places: where they are, made when asked for.
    """

    def __init__(self, files: Iterable[File] = ()) -> None:
        ids: list[str] = []
        folders: dict[str, int] = {}
        self._folder, self._label, self._size, self._changed = (array("q") for _ in range(4))
        for file in files:
            ids.append(file.id)
            folder = file.place[: -len(_name(file.id))]  # the last part of an id is the file's name
            self._folder.append(folders.setdefault(folder, len(folders)))
            self._label.append(file.label)
            self._size.append(file.size)
            self._changed.append(file.changed)
        self.ids = tuple(ids)
        self._folders = list(folders)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> File:  # type: ignore[override]  # nobody asks for slices
        identity, folder = self.ids[index], self._folders[self._folder[index]]
        return File(self._label[index], identity, folder + _name(identity), self._size[index], self._changed[index])

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class indices: int64 [N]."""
        import numpy as np

        return np.array(self._label, np.int64)

    @property
    def places(self) -> Sequence[str]:
        """Where they are."""
        return Places(self)


class Places(Sequence[str]):
    """The paths of files."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # nobody asks for slices
        return self.files[index].place


@dataclass(frozen=True)
class Layout:
    """How a published tree departs from plain class folders.

    Attributes:
        ids: what the classes are called in file ids, in label order; the names of their folders when empty.
        inner: folders inside class folders that ids leave out (Tiny-ImageNet's ``images``).
        others: endings of files that are known to be no images.
    """

    ids: Sequence[str] = ()
    inner: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


PLAIN = Layout()


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders of a tree, sorted; hidden ones do not count."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def scan(ctx: ddbench.Context, folder: Path, classes: Sequence[str], who: str, layout: Layout = PLAIN) -> Files:
    """Return the image files of a tree by class and name; other files are left out with a warning.

    Args:
        ctx: shows progress and hears the warning.
        folder: holds one folder per class.
        classes: names of the class folders in label order.
        who: what the tree is, for messages.
        layout: how a published tree is laid out.

    Raises:
        DataError: a class has no images, or a file is empty; all of them are counted and the first is named.
    """
    others: list[str] = []
    files = Files(_listed(ctx, folder, classes, who, layout, others))
    if others:
        ctx.warn(f"{who}: {len(others)} file(s) that are no images were ignored, the first is {others[0]}.")
    check(files, who)
    return files


def _listed(
    ctx: ddbench.Context, folder: Path, classes: Sequence[str], who: str, layout: Layout, others: list[str]
) -> Iterator[File]:
    # Told to the reporter: a plan, which does no work and so has no progress, may look at names.
    with ctx.reporter.task(f"listing {who}", len(classes)) as advance:
        for label, name in enumerate(classes):
            empty = True
            prefix = layout.ids[label] if layout.ids else name
            for identity, place, size, changed in sorted(_walk(str(folder / name), prefix, layout.inner)):
                if is_image(identity):
                    empty = False
                    yield File(label, identity, place, size, changed)
                elif not identity.endswith(layout.others):
                    others.append(identity)
            if empty:
                raise DataError(
                    f"{who}: class folder {name!r} has no images.",
                    hint=f"Known image files: {', '.join(sorted(SUFFIXES))}. Add images or remove the folder.",
                )
            advance(label + 1)


def _name(identity: str) -> str:
    return identity.rpartition("/")[2]


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 (ten times as fast as pathlib)


def check(files: Sequence[File], who: str) -> None:
    """Refuse empty files and dead links.

    Raises:
        DataError: there are any; the first is named and all are counted.
    """
    complain(who, [f"{file.id} is {'empty' if file.size == 0 else 'not readable'}" for file in files if file.size < 1])


def _walk(folder: str, prefix: str, inner: Sequence[str]) -> Iterator[tuple[str, str, int, int]]:
    """Yield id, path, size (-1 for a dead link) and time of change of every file below a folder, except hidden ones."""
    with os.scandir(folder) as entries:
        for entry in entries:
            identity = f"{prefix}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, prefix if entry.name in inner else identity, inner)
                continue
            yield identity, entry.path, *facts(entry)


def facts(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Return size (-1 for a dead link) and time of change of a file."""
    try:
        about = entry.stat()
    except OSError:
        return -1, 0
    return about.st_size, about.st_mtime_ns


def complain(who: str, problems: Sequence[str]) -> None:
    """Raise for a list of broken files.

    Raises:
        DataError: there are any; the first is named and all are counted.
    """
    if problems:
        more = f" ({len(problems)} broken files in all)" if len(problems) > 1 else ""
        raise DataError(
            f"{who}: image {problems[0]}{more}.", hint="Replace or remove the file(s), then run the command again."
        )
