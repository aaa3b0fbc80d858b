"""Where image data is looked for: the folders of ``DDBENCH_DATA``, or ``data`` in the artifact folder."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from ddbench import DataError
from ddbench.files import home

VARIABLE = "DDBENCH_DATA"


def roots() -> list[Path]:
    """Return the data folders, first choice first; ``DDBENCH_DATA`` may list several, separated as in ``PATH``."""
    chosen = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [Path(part).expanduser() for part in chosen] or [home() / "data"]


def looked_in(places: Iterable[Path]) -> str:
    """Return the sentence that lists where something was looked for."""
    return "Looked in: " + ", ".join(dict.fromkeys(map(str, places))) + "."


def missing(name: str, instructions: str, places: Iterable[Path], why: str = "") -> DataError:
    """Build the error for a data set that is not there: why, what to get, and where it was looked for."""
    note = "" if os.environ.get(VARIABLE) else f"\nSet {VARIABLE} to keep data somewhere else."
    reason = f", {why}" if why else "."
    here = f"The data folder is {roots()[0]}."
    return DataError(
        f"The data set {name} was not found{reason}", hint=f"{instructions}\n{here}\n{looked_in(places)}{note}"
    )


def download(
    name: str, fetch: Callable[[Path], object], instructions: str, places: Iterable[Path], *, offline: bool
) -> None:
    """Download with torchvision's checked downloader into the first data folder.

    Everything goes into a temporary folder first: what was not fetched whole has no name of its own.

    Args:
        name: the data set, also the folder's name.
        fetch: gets the folder to download into.
        instructions: what the user can do instead.
        places: where the data was looked for before.
        offline: refuse to open a connection.

    Raises:
        DataError: offline, no connection, or a file that does not match its checksum.
    """
    if offline:
        raise missing(name, instructions, places, "and nothing is downloaded here (offline, or a plan).")
    folder = roots()[0] / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".downloading-") as temporary,
            contextlib.redirect_stdout(sys.stderr),  # torchvision prints; standard output belongs to results
        ):
            fetch(Path(temporary))
            settle(Path(temporary), folder)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise missing(name, instructions, places, f"and downloading it failed ({error}).") from error


def settle(source: Path, target: Path) -> None:
    """Move what is in one folder into another of the same disk; folders that are there already take the files in."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            settle(entry, place)
        else:
            os.replace(entry, place)  # noqa: PTH105
