"""Finding the image files of class-folder trees, in an order that does not depend on the file system."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ddbench
from ddbench import DataError
from ddbench_plugins.datasets.names import composed

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
PERMIT = "Its permissions must let you read it."


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders of a tree as they are spelt there, sorted; hidden ones do not count.

    Raises:
        DataError: the folder cannot be listed, or a name is not UTF-8.
    """
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"Folder {folder.name} cannot be listed: {error.strerror or error}.", hint=PERMIT) from error
    for name in names:
        check_text(name, f"{folder.name}: the class folder")
    return sorted(names)


def classes_of(folder: Path) -> dict[str, str]:
    """Return the ids of the classes of a tree in order, each with the name of its folder.

    An id is the name with its accents composed: copies of a tree may spell them in either of Unicode's two ways.

    Raises:
        DataError: two folders have the same name but for that; or as :func:`class_folders`.
    """
    classes: dict[str, str] = {}
    for name in class_folders(folder):
        if classes.setdefault(composed(name), name) != name:
            raise DataError(
                f"{folder.name} has two class folders {composed(name)!r}, whose accents are spelt in two ways.",
                hint="Move the images of one into the other.",
            )
    return dict(sorted(classes.items()))


def check_text(name: str, what: str) -> None:
    """Refuse a name on disk that is not UTF-8: it can be neither in a record nor in a key.

    Raises:
        DataError: it is not.
    """
    if not (name.isascii() or name == name.encode("utf-8", "replace").decode()):
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise DataError(f"{what} {shown} has a name that is not UTF-8.", hint="Rename it (convmv renames whole trees).")


def scan(ctx: ddbench.Context, folder: Path, classes: Sequence[str], who: str, layout: Layout = PLAIN) -> Files:
    """Return the image files of a tree by class and name; other files are left out with a warning.

    Args:
        ctx: shows progress and hears the warning.
        folder: holds one folder per class.
        classes: names of the class folders in label order.
        who: what the tree is, for messages.
        layout: how a published tree is laid out.

    Raises:
        DataError: a class has no images, a name is not UTF-8, or a file is empty or none; all of them are counted and
            the first is named.
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
    resolved = folder.resolve()
    above = [_identity(parent) for parent in (resolved, *resolved.parents)]
    # Told to the reporter: a plan, which does no work and so has no progress, may look at names.
    with ctx.reporter.task(f"listing {who}", len(classes)) as advance:
        for label, name in enumerate(classes):
            last = ""
            prefix = layout.ids[label] if layout.ids else name
            for identity, place, size, changed in sorted(_walk(str(folder / name), prefix, layout.inner, who, above)):
                if is_image(identity):
                    if identity == last:
                        raise DataError(f"{who}: there are two images {identity}.", hint="Rename or remove one.")
                    last = identity
                    yield File(label, identity, place, size, changed)
                elif not identity.endswith(layout.others):
                    others.append(identity)
            if not last:
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


#: What is wrong with a file, in place of its size.
DEAD, NO_FILE = -1, -2
WRONG = {0: "empty", DEAD: "not readable", NO_FILE: "a pipe or a device, not a file"}


def check(files: Sequence[File], who: str) -> None:
    """Refuse empty files, dead links, pipes and devices.

    Raises:
        DataError: there are any; the first is named and all are counted.
    """
    complain(who, [f"{file.id} is {WRONG[file.size]}" for file in files if file.size in WRONG])


def _identity(folder: str | Path) -> tuple[int, int]:
    about = os.stat(folder)  # noqa: PTH116 (a million of them)
    return about.st_dev, about.st_ino


def _walk(
    folder: str, prefix: str, inner: Sequence[str], who: str, above: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, str, int, int]]:
    """Yield id, path, size and time of change of every file below a folder, except hidden ones.

    Links to folders are followed, as torchvision and timm do, but not back into a folder that they lie in.
    """
    try:
        here = _identity(folder)
        with os.scandir(folder) as listed:
            entries = list(listed)
    except OSError as error:
        raise DataError(f"{who}: folder {prefix} cannot be listed: {error.strerror}.", hint=PERMIT) from error
    if here in above:
        return
    for entry in entries:
        identity = f"{prefix}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if not entry.name.isascii():
            check_text(identity, f"{who}: the file")
        if entry.is_dir():
            inside = prefix if entry.name in inner else identity
            yield from _walk(entry.path, inside, inner, who, (*above, here))
        else:
            yield identity, entry.path, *facts(entry)


def facts(entry: os.DirEntry[str] | Path) -> tuple[int, int]:
    """Return size (or what is wrong, as in ``WRONG``) and state of a file: its time of change with its inode.

    Archives, ``rsync -t`` and container layers give equal times to files of other content.
    """
    try:
        about = entry.stat()
    except OSError:
        return DEAD, 0
    return (about.st_size if stat.S_ISREG(about.st_mode) else NO_FILE), (about.st_mtime_ns + about.st_ino) % 2**63


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
