"""Publications on their way: to the hub, to a folder, or nowhere yet."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from ddbench.files.folders import whole_folder
from ddbench.sets import hub
from ddbench.sets.hub import Address
from ddbench.sets.pushing import writing
from ddbench.sets.pushing.publication import Publication


@dataclass(frozen=True)
class Pushed:
    """What went up, or would.

    Attributes:
        files: names in the repository, with bytes.
        configs: names of the configurations.
        commit: of the hub; "" where nothing went there.
    """

    files: tuple[tuple[str, int], ...]
    configs: tuple[str, ...]
    commit: str = ""


def publish(publication: Publication, address: Address, out: Path | None, dry_run: bool, private: bool) -> Pushed:
    """Write a publication to a new folder, or to the hub; or only say which files it has.

    Raises:
        UsageError: the folder exists, or the repository holds other configurations.
        DataError: the hub refused it.
    """
    if out is not None and not dry_run:
        with whole_folder(out) as partial:
            writing.write(publication, partial)
            return _pushed(publication, partial)
    with tempfile.TemporaryDirectory(prefix="ddbench-") as temporary:
        folder = Path(temporary)
        writing.write(publication, folder)
        commit = "" if dry_run else hub.upload(address, folder, list(publication.sets), private=private)
        return _pushed(publication, folder, commit)


def _pushed(publication: Publication, folder: Path, commit: str = "") -> Pushed:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    sizes = tuple((path.relative_to(folder).as_posix(), path.stat().st_size) for path in files)
    return Pushed(sizes, tuple(publication.sets), commit)
