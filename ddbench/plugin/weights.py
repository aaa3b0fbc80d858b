"""Published model weights that plugins read: whether they are here, their size, and what fetches them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Weights:
    """A published model that a run reads.

    Attributes:
        source: hub id or address.
        revision: commit, tag or branch asked for; the commit that is here where it is here.
        bytes: size of what is read; None where nobody knows.
        here: whether it is on this machine.
        command: what fetches it.
    """

    source: str
    revision: str | None
    bytes: int | None
    here: bool
    command: str


def hub_weights(source: str, files: Sequence[str], revision: str | None = None, size: int | None = None) -> Weights:
    """Look for a model of the Hugging Face hub in its local cache; never opens a connection.

    Args:
        source: hub id.
        files: what is read, as patterns within the repository; the first one names a single file.
        revision: commit, tag or branch; the hub's default when None.
        size: bytes of those files as published.
    """
    command = f"hf download {source}" + (f" --revision {revision}" if revision else "")
    folder = _snapshot(source, files[0], revision)
    matches = [list(folder.glob(pattern)) for pattern in files] if folder else [[]]
    if folder is None or not all(matches) or not all(_whole(path) for paths in matches for path in paths):
        return Weights(source, revision, size, here=False, command=command)
    there = {path for paths in matches for path in paths}
    return Weights(source, folder.name, sum(path.stat().st_size for path in there), here=True, command=command)


def cached_first(
    load: Callable[[bool], Result], *, here: bool, offline: bool, failures: tuple[type[Exception], ...]
) -> Result:
    """Load a published model from this machine where it is here; only what is not is asked of its hub.

    A hub that cannot be reached is asked for every file again and again, which takes minutes.

    Args:
        load: given whether to open no connection.
        here: whether the model is on this machine, as far as is known.
        offline: whether the run opens no connection.
        failures: what ``load`` raises where something is missing after all.
    """
    if here and not offline:
        with contextlib.suppress(*failures):
            return load(True)
    return load(offline)


def _snapshot(source: str, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    place = try_to_load_from_cache(source, file, revision=revision)
    return Path(place).parents[file.count("/")] if isinstance(place, str) else None


def _whole(path: Path) -> bool:
    """Whether a file is there, and the parts of a divided model that it lists."""
    if not path.exists():
        return False
    if not path.name.endswith(".index.json"):
        return True
    parts = set(json.loads(path.read_text("utf-8")).get("weight_map", {}).values())
    return all((path.parent / part).exists() for part in parts)
