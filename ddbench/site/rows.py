"""Records → rows of the page's table: all distillation seeds of one cell, with their statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddbench.keys import canonical
from ddbench.results import labels
from ddbench.results.runs import by_set, unified
from ddbench.results.schema import Record
from ddbench.tables import notes, stats


@dataclass(frozen=True)
class Row:
    """One method under one protocol, budget and network, over all its distilled sets.

    Attributes:
        records: positions of its records, by seed.
        groups: headline accuracies (fractions), one per trained network, by distilled set.
        gain: mean minus the mean of the baseline in the same place, or None.
    """

    records: tuple[int, ...]
    groups: tuple[tuple[float, ...], ...]
    gain: float | None

    @property
    def values(self) -> tuple[float, ...]:
        """All accuracies."""
        return tuple(value for group in self.groups for value in group)

    @property
    def mean(self) -> float:
        """Mean over all runs (fraction)."""
        return stats.mean(self.values)

    @property
    def std(self) -> float | None:
        """Population standard deviation over all runs; a single one has none."""
        return stats.population_std(self.values)

    @property
    def runs(self) -> str:
        """Sets × repeats, e.g. ``2×3``."""
        low, high = min(map(len, self.groups)), max(map(len, self.groups))
        return f"{len(self.groups)}×{low}" if low == high else f"{len(self.groups)}×{low}–{high}"

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean over both levels, or None for a single run."""
        return stats.two_level_interval(self.groups, within=(0.0, 1.0))


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
    base: dict[str, float] = {}
    for members in groups.values():
        first = records[members[0]]
        if first.cell.method.name == baseline and not first.cell.method.explicit:
            base.setdefault(canonical(_place(first)), _row(records, members, {}, baseline).mean)
    return [_row(records, members, base, baseline) for members in groups.values()]


def label(record: Record) -> str:
    """Return the method with the options that were set for it."""
    cell = record.cell
    return labels.label(cell.method.name, {**cell.method.explicit, **labels.flat(cell.other_options)})


def label_type(record: Record) -> str:
    """Return whether students were trained on hard or soft labels, as the protocol says."""
    settings = record.protocol.settings
    return next((labels.value_text(settings[key]) for key in notes.LABEL_KEYS if key in settings), "unknown")


def _row(records: Sequence[Record], members: list[int], base: dict[str, float], baseline: str) -> Row:
    members = sorted(members, key=lambda number: (records[number].cell.seed, records[number].key))
    per_set = by_set((records[number] for number in members), lambda record: record.result.values)
    groups = tuple(map(tuple, per_set.values()))
    first = records[members[0]]
    start = None if first.cell.method.name == baseline or first.cell.ipc is None else base.get(canonical(_place(first)))
    gain = None if start is None else stats.mean([value for group in groups for value in group]) - start
    return Row(tuple(members), groups, gain)


def _place(record: Record) -> list[Any]:
    """Return where two methods compete: data, budget, network and protocol."""
    cell = record.cell
    data = cell.dataset
    where = [data["name"], data["fingerprint"], data["image_size"], cell.ipc, cell.network, cell.preset]
    return [*where, cell.evaluator.name, cell.evaluator.version, cell.evaluator.explicit, record.protocol.digest]


def _method(record: Record) -> list[Any]:
    cell = record.cell
    return [cell.method.name, cell.method.version, cell.method.options, cell.method.explicit, cell.other_options]
