"""Records → rows of the page: all distilled sets of a method in one setting, compared within it as on boards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddbench.keys import canonical
from ddbench.results.runs import unified
from ddbench.results.schema import Record
from ddbench.tables.board import Entry
from ddbench.tables.leaderboard import compared, entry


@dataclass(frozen=True)
class Row:
    """One method in one setting, over all its distilled sets.

    Attributes:
        records: positions of its records, by seed.
        first: the first of them, under the names that its experiment goes by.
        entry: its runs, with rank and test against the best of the setting.
        gain: mean minus the mean of the baseline in the same setting (fraction), or None.
    """

    records: tuple[int, ...]
    first: Record
    entry: Entry
    gain: float | None


def rows(records: Sequence[Record], baseline: str, signs: Mapping[tuple[str, str], str] | None = None) -> list[Row]:
    """Group records that differ in their seeds alone, whichever preset named their protocol.

    Args:
        records: in the order in which rows refer to them.
        baseline: the method over which gains are counted, or "".
        signs: marks of what was scaled down: (option, value) → sign.
    """
    records = unified(records)
    settings: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, record in enumerate(records):
        settings[canonical(_setting(record))][canonical(_method(record))].append(number)
    listed = []
    for methods in settings.values():
        entries: dict[tuple[int, ...], Entry] = {}
        for members in methods.values():
            members.sort(key=lambda number: (records[number].cell.seed, records[number].key))
            entries[tuple(members)] = entry([records[number] for number in members], signs=signs)
        methods_of = {members: records[members[0]].cell.method for members in entries}
        bases = [members for members, method in methods_of.items() if method.name == baseline and not method.explicit]
        for places, runs in compared(entries).items():
            gain = runs.mean - entries[bases[0]].mean if bases and places not in bases else None
            listed.append(Row(places, records[places[0]], runs, gain))
    return listed


def _setting(record: Record) -> list[Any]:
    """Return where methods compete: data, budget, network and protocol."""
    cell = record.cell
    data = cell.dataset
    where = [data["name"], data["fingerprint"], data["image_size"], cell.ipc, cell.network]
    return [*where, cell.evaluator.name, cell.evaluator.version, record.protocol.digest]


def _method(record: Record) -> list[Any]:
    cell = record.cell
    return [cell.method.name, cell.method.version, cell.method.options, cell.method.explicit, cell.other_options]
