"""Records → comparison tables: a pure function, so that the same registry always gives the same boards.

One table per data set (with fingerprint), evaluator and variant of its protocol; methods are columns, IPC × network are
rows. Two results share a row only when the digest of their protocol is the same; the whole training set (``full``),
which has a reference recipe of its own, is repeated in every row of its network.
"""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ddbench.keys import canonical
from ddbench.results.labels import explicit_of, label, label_of
from ddbench.results.runs import by_set, unified
from ddbench.results.schema import Cell, Record
from ddbench.tables import notes
from ddbench.tables.board import DECIMALS, Board, Column, Entry, Row, Table
from ddbench.tables.stats import difference, holm

HEADLINE = "top1"
#: Metrics that are accuracies; others may have any range.
ACCURACIES = (HEADLINE, "last", "best")


@dataclass(frozen=True)
class Layout:
    """How tables are arranged.

    Attributes:
        first: methods that come first, in this order (the baselines); the others follow by name.
        gain_over: the method whose mean is subtracted for gains, or "".
        networks: networks that come first among the rows of a budget, in this order; the others follow by name.
        names: how methods and networks are called in the table, where it is not by their name.
        labels: how variants are called, by the method with its options: ``vlcp (text=label)``.
        metric: ``top1`` (the headline), ``last``, ``best``, or a further metric of the evaluator.
        lower_is_better: whether the smallest value of the metric is the best.
    """

    first: tuple[str, ...] = ()
    gain_over: str = ""
    networks: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metric: str = HEADLINE
    lower_is_better: bool = False

    def called(self, name: str) -> str:
        """Return what a method or network is called."""
        return self.names.get(name, name)

    def variant(self, cell: Cell) -> str:
        """Return a cell's method, as it is called, with the options that were set."""
        return label(self.called(cell.method.name), explicit_of(cell))

    def column_rank(self, column: Column) -> tuple[bool, int]:
        """Return the place of a column: those of the layout first, the whole data set last."""
        return column.whole, self.first.index(column.method) if column.method in self.first else len(self.first)

    def network_rank(self, network: str) -> tuple[int, str]:
        """Return the place of a network among the rows of a budget."""
        return (self.networks.index(network) if network in self.networks else len(self.networks), network)


def values(record: Record, metric: str = HEADLINE) -> list[float]:
    """Return one value per trained network; none where the record lacks the metric."""
    result = record.result
    if metric in (HEADLINE, result.metric):
        return result.values
    if metric == "last":
        return result.last
    numbers = result.best if metric == "best" else [repeat.get(metric) for repeat in result.metrics]
    return [] if None in numbers else [value for value in numbers if value is not None]


Variant = tuple[str, ...]
ColumnKey = tuple[str, ...]
RowKey = tuple[int | None, str, str]


def build(records: Iterable[Record], layout: Layout | None = None, *, name: str = "", title: str = "") -> Board:
    """Arrange records into tables.

    Args:
        records: in any order.
        layout: the order of columns and the baseline.
        name, title: of the board.
    """
    groups: dict[Variant, list[Record]] = defaultdict(list)
    whole: dict[Variant, list[Record]] = defaultdict(list)
    layout = layout or Layout()
    usable = (record for record in records if values(record, layout.metric))
    for record in in_order(usable):
        # The reference recipe of the whole set has its own extension, so it joins every variant it belongs to.
        (whole if record.cell.ipc is None else groups)[_variant(record)[:-1]].append(record)
    tables = []
    for variant in sorted({*groups, *whole}):
        split: dict[str, list[Record]] = defaultdict(list)
        for record in groups.get(variant, []):
            split[record.protocol.extension].append(record)
        for extension in sorted(split) or [""]:
            tables.append(_table(split.get(extension, []), whole.get(variant, []), layout))
    return Board(name, title, tuple(tables))


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sort records, one experiment under one name, so that their order of reading changes nothing made of them."""

    def place(record: Record) -> tuple[object, ...]:
        cell = record.cell
        budget = -1 if cell.ipc is None else cell.ipc
        return str(cell.dataset["name"]), cell.method.name, budget, cell.seed, record.key

    return sorted(unified(records), key=place)


def _variant(record: Record) -> Variant:
    cell = record.cell
    data = cell.dataset
    return (
        str(data["name"]),
        str(data["fingerprint"]),
        str(data["image_size"]),
        cell.evaluator.name,
        str(cell.evaluator.version),
        cell.preset,
        canonical(cell.evaluator.explicit),
        record.protocol.extension,
    )


def _table(records: Sequence[Record], whole: Sequence[Record], layout: Layout) -> Table:
    columns = _columns([*records, *whole], layout)
    keys = {(r.cell.ipc, r.cell.network, r.protocol.digest) for r in records}
    covered = {network for _, network, _ in keys}
    keys |= {(None, r.cell.network, "") for r in whole if r.cell.network not in covered}
    ordered = sorted(keys, key=lambda key: (key[0] is None, key[0] or 0, layout.network_rank(key[1]), key[2]))
    marks = _marks(ordered)
    rows = _sure_gains(
        _row(key, marks.get(key, ""), [members for _, members in columns], layout, [c.method for c, _ in columns])
        for key in ordered
    )
    usual = Counter(
        cell.runs
        for row in rows
        for cell, (column, _) in zip(row.cells, columns, strict=True)
        if isinstance(cell, Entry) and not column.whole
    )
    metric = f"{layout.metric} ({'lower' if layout.lower_is_better else 'higher'} is better)"
    runs = max(usual, key=lambda text: (usual[text], text)) if usual else ""
    everything = [*records, *whole]
    first = everything[0]
    labelled = [(column.label, column.whole, members) for column, members in columns]
    by_key = {(r.cell.ipc, r.cell.network, r.protocol.digest): r for r in reversed(records)}
    protocols = {(row.budget, row.network): by_key[row.ipc, row.network, row.protocol] for row in rows if row.protocol}
    return Table(
        dataset=first.cell.dataset["name"],
        fingerprint=first.cell.dataset["fingerprint"],
        evaluator=first.cell.evaluator.name,
        preset=first.cell.preset,
        title=notes.title(first) + (f", {layout.metric}" if layout.metric != HEADLINE else ""),
        facts=notes.facts(records or whole, "" if layout.metric == HEADLINE else metric),
        columns=tuple(replace(column, label=_called(column, layout)) for column, _ in columns),
        rows=tuple(replace(row, network=layout.called(row.network)) for row in rows),
        runs=runs,
        notes=notes.notes(labelled, protocols),
        gain_over=layout.gain_over
        if any(isinstance(cell, Entry) and cell.gain is not None for row in rows for cell in row.cells)
        else "",
    )


def _marks(keys: Sequence[RowKey]) -> dict[RowKey, str]:
    """Letter the rows whose budget and network appear under several protocols."""
    count = Counter((ipc, network) for ipc, network, _ in keys)
    several = [key for key in keys if count[key[:2]] > 1]
    return {key: _letters(number) for number, key in enumerate(several)}


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number >= 26 else "") + string.ascii_lowercase[number % 26]


def _columns(records: Sequence[Record], layout: Layout) -> list[tuple[Column, list[Record]]]:
    groups: dict[ColumnKey, list[Record]] = defaultdict(list)
    for record in records:
        groups[_column_key(record)].append(record)
    parts = [part for _, members in sorted(groups.items()) for part in _split_conflicts(members)]
    labels = _labels(parts)
    columns = [
        (Column(label, members[0].cell.method.name, members[0].cell.ipc is None), members)
        for label, members in zip(labels, parts, strict=True)
    ]
    return sorted(columns, key=lambda item: (*layout.column_rank(item[0]), item[0].label))


def _column_key(record: Record) -> ColumnKey:
    cell = record.cell
    own = (cell.method.name, str(cell.method.version), canonical(cell.method.explicit), canonical(cell.other_options))
    return (*own, record.protocol.digest if cell.ipc is None else "")


def _split_conflicts(members: list[Record]) -> list[list[Record]]:
    """Split a column where one row would mix results of different options (a default that was changed in between)."""
    options: dict[tuple[object, ...], dict[str, Any]] = {}
    for r in members:
        own = r.cell.method.options
        if options.setdefault((r.cell.ipc, r.cell.network, r.protocol.digest), own) != own:
            break
    else:
        return [members]
    parts: dict[str, list[Record]] = defaultdict(list)
    for record in members:
        parts[canonical(record.cell.method.options)].append(record)
    return [part for _, part in sorted(parts.items())]


def _labels(parts: Sequence[list[Record]]) -> list[str]:
    """Name columns by method and explicit options; where that is not enough, by whatever else differs."""
    cells = [part[0].cell for part in parts]
    plain = [label_of(cell) for cell in cells]
    doubled = Counter(plain)
    labels = list(plain)
    for text in (text for text, count in doubled.items() if count > 1):
        places = [place for place, other in enumerate(plain) if other == text]
        details: list[Mapping[str, Any]] = [
            {"version": cells[p].method.version, **cells[p].method.options}
            | ({"protocol": parts[p][0].protocol.digest[:8]} if cells[p].ipc is None else {})
            for p in places
        ]
        for place, detail in zip(places, notes.distinct(details), strict=True):
            labels[place] = label(text, detail)
    return labels


def _called(column: Column, layout: Layout) -> str:
    """Take the name of a variant, or put the name a method is called by in front of its options."""
    if name := layout.labels.get(column.label):
        return name
    return layout.called(column.method) + column.label.removeprefix(column.method)


def _row(key: RowKey, mark: str, columns: Sequence[list[Record]], layout: Layout, methods: Sequence[str]) -> Row:
    ipc, network, protocol = key
    cells: list[Entry | None] = []
    ranked: list[int] = []
    for members in columns:
        whole = members[0].cell.ipc is None
        chosen = [
            r
            for r in members
            if r.cell.network == network and (whole or (r.cell.ipc, r.protocol.digest) == (ipc, protocol))
        ]
        if chosen and not whole:
            ranked.append(len(cells))
        cells.append(entry(chosen, layout.metric) if chosen else None)
    entries = {place: cell for place in ranked if (cell := cells[place])}
    sign = -1 if layout.lower_is_better else 1
    ranks = ranking({place: round(100 * sign * cell.mean, DECIMALS) for place, cell in entries.items()})
    tests = _versus_best(entries, ranks, sign)
    base = next((entries[p] for p in ranked if methods[p] == layout.gain_over), None)
    for place, cell in entries.items():
        other = base if methods[place] != layout.gain_over else None
        cells[place] = replace(
            cell,
            rank=ranks[place],
            versus_best=tests.get(place),
            ranked=len(entries) > 1,
            gain=None if other is None else cell.mean - other.mean,
            gain_p=None if other is None else difference(cell.groups, other.groups).p_value,
        )
    return Row(ipc, network, protocol, mark, tuple(cells))


def ranking(shown: Mapping[int, float]) -> dict[int, int]:
    """Return place → 1 for the best, 2 for the second of three or more, else 0; nothing is best of itself."""
    best = sorted(set(shown.values()), reverse=True)
    second = best[1] if len(shown) > 2 and len(best) > 1 else None
    return {
        place: 0 if len(shown) < 2 else 1 if value == best[0] else 2 if value == second else 0
        for place, value in shown.items()
    }


def _versus_best(cells: Mapping[int, Entry], ranks: Mapping[int, int], sign: int) -> dict[int, float]:
    """Return Holm's p value of every entry below the best of its row that can be tested."""
    best = max(cells, key=lambda place: sign * cells[place].mean, default=None)
    if best is None:
        return {}
    below = [place for place in cells if place != best and ranks[place] != 1]
    return holm({place: difference(cells[best].groups, cells[place].groups).p_value for place in below})


def _sure_gains(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Correct the p values of gains over the rows of each column."""
    rows = list(rows)
    columns = []
    for column in zip(*(row.cells for row in rows), strict=True):
        p_values = holm({number: cell.gain_p for number, cell in enumerate(column) if isinstance(cell, Entry)})
        columns.append(
            [
                replace(cell, gain_p=p_values.get(number)) if isinstance(cell, Entry) else cell
                for number, cell in enumerate(column)
            ]
        )
    return tuple(replace(row, cells=cells) for row, cells in zip(rows, zip(*columns, strict=True), strict=True))


def entry(records: Sequence[Record], metric: str = HEADLINE) -> Entry:
    """Pool the distinct networks of one method in one row."""
    groups = tuple(map(tuple, by_set(records, lambda record: values(record, metric)).values()))
    sizes = [len(group) for group in groups]
    return Entry(
        values=tuple(value for group in groups for value in group),
        sets=len(groups),
        repeats=(min(sizes), max(sizes)),
        groups=groups,
        accuracy=metric in ACCURACIES,
    )
