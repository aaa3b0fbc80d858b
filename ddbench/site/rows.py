"""Records → rows of the page's table: all distillation seeds of one cell, with their statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddbench.keys import canonical
from ddbench.results.runs import unified
from ddbench.results.schema import Record
from ddbench.tables.board import Entry
from ddbench.tables.leaderboard import entry


@dataclass(frozen=True)
class Row:
    """One method under one protocol, budget and network, over all its distilled sets.

    Attributes:
        records: positions of its records, by seed.
        entry: its runs.
        gain: mean minus the mean of the baseline in the same place (fraction), or None.
    """

    records: tuple[int, ...]
    entry: Entry
    gain: float | None


def rows(records: Sequence[Record], baseline: str) -> list[Row]:
    """Group records that differ in their distillation seed alone.

    Args:
        records: in the order in which rows refer to them.
        baseline: the method over which gains are counted, or "".
    """
    records = unified(records)
    groups: dict[str, list[int]] = defaultdict(list)
    for number, record in enumerate(records):
        groups[canonical([_place(record), _method(record), record.cell.evaluation_seed])].append(number)
    listed: list[tuple[tuple[int, ...], Entry, Record]] = []
    base: dict[str, float] = {}
    for members in groups.values():
        members.sort(key=lambda number: (records[number].cell.seed, records[number].key))
        first, runs = records[members[0]], entry([records[number] for number in members])
        if first.cell.method.name == baseline and not first.cell.method.explicit:
            base.setdefault(canonical(_place(first)), runs.mean)
        listed.append((tuple(members), runs, first))

    def gain(runs: Entry, first: Record) -> float | None:
        if first.cell.method.name == baseline or first.cell.ipc is None:
            return None
        start = base.get(canonical(_place(first)))
        return None if start is None else runs.mean - start

    return [Row(members, runs, gain(runs, first)) for members, runs, first in listed]


def _place(record: Record) -> list[Any]:
    """Return where two methods compete: data, budget, network and protocol."""
    cell = record.cell
    data = cell.dataset
    where = [data["name"], data["fingerprint"], data["image_size"], cell.ipc, cell.network, cell.preset]
    return [*where, cell.evaluator.name, cell.evaluator.version, cell.evaluator.explicit, record.protocol.digest]


def _method(record: Record) -> list[Any]:
    cell = record.cell
    return [cell.method.name, cell.method.version, cell.method.options, cell.method.explicit, cell.other_options]
