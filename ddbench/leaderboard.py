"""Records → comparison tables: a pure function, so that the same registry always gives the same boards.

One table per data set (with fingerprint), evaluator and variant of its protocol; methods are columns, IPC × network are
rows. Two results share a row only when the digest of their protocol is the same; the whole training set (``full``),
which has a reference recipe of its own, is repeated in every row of its network.
"""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ddbench.keys import canonical
from ddbench.records import Record
from ddbench.reports import notes
from ddbench.reports.board import DECIMALS, Board, Column, Entry, Row, Table


@dataclass(frozen=True)
class Layout:
    """How tables are arranged.

    Attributes:
        first: methods that come first, in this order (the baselines); the others follow by name.
        gain_over: the method whose mean is subtracted for gains, or "".
    """

    first: tuple[str, ...] = ()
    gain_over: str = ""


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
    for record in sorted(records, key=lambda r: (r.relative_path().as_posix(), r.key)):
        # The reference recipe of the whole set has its own extension, so it joins every variant it belongs to.
        (whole if record.cell.ipc is None else groups)[_variant(record)[:-1]].append(record)
    tables = []
    for variant in sorted({*groups, *whole}):
        split: dict[str, list[Record]] = defaultdict(list)
        for record in groups.get(variant, []):
            split[record.protocol.extension].append(record)
        for extension in sorted(split) or [""]:
            tables.append(_table(split.get(extension, []), whole.get(variant, []), layout or Layout()))
    return Board(name, title, tuple(tables))


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
    ordered = sorted(keys, key=lambda key: (key[0] is None, key[0] or 0, key[1], key[2]))
    marks = _marks(ordered)
    rows = tuple(
        _row(key, marks.get(key, ""), [members for _, members in columns], layout, [c.method for c, _ in columns])
        for key in ordered
    )
    usual = Counter(
        cell.runs
        for row in rows
        for cell, (column, _) in zip(row.cells, columns, strict=True)
        if cell and not column.whole
    )
    runs = max(usual, key=lambda text: (usual[text], text)) if usual else ""
    everything = [*records, *whole]
    first = everything[0]
    labelled = [(column.label, column.whole, members) for column, members in columns]
    protocols = {(row.budget, row.network): _with_digest(records, row) for row in rows if row.protocol}
    return Table(
        dataset=first.cell.dataset["name"],
        fingerprint=first.cell.dataset["fingerprint"],
        evaluator=first.cell.evaluator.name,
        preset=first.cell.preset,
        title=notes.title(first),
        facts=notes.facts(records or whole),
        columns=tuple(column for column, _ in columns),
        rows=rows,
        runs=runs,
        notes=notes.notes(labelled, protocols),
        gain_over=layout.gain_over if any(cell and cell.gain is not None for row in rows for cell in row.cells) else "",
    )


def _with_digest(records: Sequence[Record], row: Row) -> Record:
    return next(
        r for r in records if (r.cell.ipc, r.cell.network, r.protocol.digest) == (row.ipc, row.network, row.protocol)
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
    found = [
        (Column(label, members[0].cell.method.name, members[0].cell.ipc is None), members)
        for label, members in zip(labels, parts, strict=True)
    ]
    rank = {method: number for number, method in enumerate(layout.first)}
    return sorted(found, key=lambda item: (item[0].whole, rank.get(item[0].method, len(rank)), item[0].label))


def _column_key(record: Record) -> ColumnKey:
    cell = record.cell
    own = (cell.method.name, str(cell.method.version), canonical(cell.method.explicit), canonical(cell.other_options))
    return (*own, record.protocol.digest if cell.ipc is None else "")


def _split_conflicts(members: list[Record]) -> list[list[Record]]:
    """Split a column where one row would mix results of different options (a default that was changed in between)."""
    options: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for r in members:
        options[r.cell.ipc, r.cell.network, r.protocol.digest].add(canonical(r.cell.method.options))
    if all(len(found) == 1 for found in options.values()):
        return [members]
    parts: dict[str, list[Record]] = defaultdict(list)
    for record in members:
        parts[canonical(record.cell.method.options)].append(record)
    return [part for _, part in sorted(parts.items())]


def _labels(parts: Sequence[list[Record]]) -> list[str]:
    """Name columns by method and explicit options; where that is not enough, by whatever else differs."""
    cells = [part[0].cell for part in parts]
    plain = [
        notes.label(cell.method.name, {**cell.method.explicit, **notes.flat(cell.other_options)}) for cell in cells
    ]
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
            labels[place] = notes.label(text, detail)
    return labels


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
        cells.append(_entry(chosen) if chosen else None)
    shown = {place: round(100 * cell.mean, DECIMALS) for place in ranked if (cell := cells[place])}
    best = sorted(set(shown.values()), reverse=True)
    base = next((cells[p] for p in ranked if methods[p] == layout.gain_over), None)
    for place, value in shown.items():
        cell = cells[place]
        if cell is None:
            continue
        rank = 0 if len(shown) < 2 else 1 if value == best[0] else 2 if len(shown) > 2 and value == best[1] else 0
        gain = cell.mean - base.mean if base is not None and methods[place] != layout.gain_over else None
        cells[place] = replace(cell, rank=rank, gain=gain)
    return Row(ipc, network, protocol, mark, tuple(cells))


def _entry(records: Sequence[Record]) -> Entry:
    per_set: dict[str, int] = defaultdict(int)
    for record in records:
        per_set[record.distilled.digest] += len(record.result.values)
    values = tuple(value for record in records for value in record.result.values)
    return Entry(values, len(per_set), (min(per_set.values()), max(per_set.values())))
