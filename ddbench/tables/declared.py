"""What boards.toml declares: the order of columns, which claims stand beside, and further boards."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from ddbench.errors import UsageError
from ddbench.files.reading import read_text
from ddbench.files.schemas import Part, first_flaw, parse_toml
from ddbench.tables.leaderboard import HEADLINE, Layout

FILE = "boards.toml"
HINT = "See docs/results/leaderboards.md."


class Columns(Part):
    """The order of columns, the baseline of gains, and how variants (methods with their options) are called.

    Records of evaluators that stand ``apart`` are not on the page of their data set where a declared board that names
    the evaluator has them.
    """

    first: tuple[str, ...] = ()
    gain_over: str = ""
    apart: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default={})


class Claims(Part):
    """Which published claims stand below the measured tables of a data set's page; none where ``kind`` is empty."""

    kind: tuple[str, ...] = ()


class Mark(Part):
    """A sign behind the numbers of records whose option was scaled down to ``value``, and what it means."""

    sign: str
    option: str
    value: str
    text: str


class Page(Part):
    """A page declared in boards.toml; empty filters include everything.

    ``style`` is ``paper`` (methods × settings), ``families`` (methods by family, evaluators as lines), ``reproduced``
    (a verdict on every claim that was measured) or ``variants`` (one line per variant, with its difference from
    ``reference``). Where ``source`` or ``kind`` names published claims, a ``paper`` board shows them as blocks with
    ours beside; ``front`` puts it on the page that lists the others. The order of ``method`` and ``network`` is that
    of lines and blocks. Every ``metric`` makes tables of its own; ``lower_is_better`` names those whose smallest value
    is the best.
    """

    name: str
    title: str
    style: Literal["paper", "families", "reproduced", "variants"] = "paper"
    front: bool = False
    dataset: tuple[str, ...] = ()
    evaluator: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    ipc: tuple[int, ...] = ()
    protocol: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    metric: tuple[str, ...] = (HEADLINE,)
    lower_is_better: tuple[str, ...] = ()
    minimum_seeds: int = 1
    reference: str = ""
    names: dict[str, str] = Field(default={})

    @field_validator("metric", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class Declared(Part):
    """The content of boards.toml: ``names`` as publications call things, ``venues`` and ``families`` of methods."""

    columns: Columns = Columns()
    claims: Claims = Claims()
    names: dict[str, str] = Field(default={})
    venues: dict[str, str] = Field(default={})
    families: dict[str, tuple[str, ...]] = Field(default={})
    mark: tuple[Mark, ...] = ()
    board: tuple[Page, ...] = ()

    def layout(self) -> Layout:
        """Return how tables are arranged."""
        signs = {(mark.option, mark.value): mark.sign for mark in self.mark}
        return Layout(self.columns.first, self.columns.gain_over, labels=self.columns.labels, signs=signs)


def declared(folder: Path) -> Declared:
    """Read ``boards.toml`` of a leaderboard folder, or ddbench's own where there is none.

    Raises:
        UsageError: not TOML, or a key that is not known.
    """
    path = folder / FILE
    if os.path.lexists(path):
        text = read_text(path, UsageError)
    else:
        text = importlib.resources.files("ddbench.tables").joinpath(FILE).read_text("utf-8")
    return validated(parse_toml(text, FILE, UsageError, HINT), FILE)


def validated(content: Mapping[str, Any], name: str) -> Declared:
    """Check what a file of this name declares.

    Raises:
        UsageError: a key or value that is not known.
    """
    try:
        return Declared.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{name}: {first_flaw(error)}", hint=HINT) from error
