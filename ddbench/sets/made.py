"""A distilled set with how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddbench.plugin.contracts import DistilledSet
from ddbench.results.schema import PluginPart


@dataclass(frozen=True)
class Distilled:
    """A distilled set with how it came about.

    Attributes:
        entry, ctx: the method and the context (options, seed) it was made with; None for a set from a folder.
        plugin: the method as it goes into the cell.
        content: images and labels with what travels with them.
        key, digest: of the artifact and of its content.
        shrunk: options below the paper's scale.
        steps, seconds, bytes: what it cost to make and costs to store; a set from a folder does not say the former.
        path: its folder.
        origin: the repository on the hub, at its commit, that it was read from; "" for any other.
    """

    plugin: PluginPart
    content: DistilledSet
    key: str
    digest: str
    ipc: int | None
    seed: int
    shrunk: tuple[tuple[str, Any, Any], ...]
    steps: list[dict[str, Any]]
    seconds: float | None
    bytes: Mapping[str, int]
    path: Path
    origin: str = ""
