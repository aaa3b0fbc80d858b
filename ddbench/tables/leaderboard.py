"""Records → comparisons: a pure function, so that the same registry always gives the same boards.

One table per data set (with fingerprint and size); settings are rows, methods with their options are columns. Two
results share a row only when the digest of their protocol is the same, and they do so whichever presets or options
they were requested by; the whole training set (``full``), which has a reference recipe of its own, is repeated in every
row of its evaluator and network.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, TypeVar

from ddbench.keys import canonical
from ddbench.results.claims import Aliases
from ddbench.results.labels import explicit_of, label, label_of
from ddbench.results.runs import by_set, unified
from ddbench.results.schema import Record
from ddbench.tables import notes
from ddbench.tables.board import DECIMALS, Column, Entry, Row, Spent, Table
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
        networks: networks that come first, in this order; the others follow by name.
        names: how methods, networks and protocols are called in the table, where it is not by their name.
        labels: how variants are called, by the method with its options: ``vlcp (text=label)``.
        metric: ``top1`` (the headline), ``last``, ``best``, or a further metric of the evaluator.
        lower_is_better: whether the smallest value of the metric is the best.
        signs: marks of records: (option of the experiment, its value) → sign.
        aliases: under which names evaluators with certain options are published.
    """

    first: tuple[str, ...] = ()
    gain_over: str = ""
    networks: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metric: str = HEADLINE
    lower_is_better: bool = False
    signs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    aliases: Aliases = field(default_factory=Aliases)

    def called(self, name: str) -> str:
        """Return what a method, network or protocol is called."""
        return self.names.get(name, name)

    def column_rank(self, method: str, whole: bool = False) -> tuple[bool, int]:
        """Return the place of a method: those of the layout first, the whole data set last."""
        return whole, self.first.index(method) if method in self.first else len(self.first)

    def network_rank(self, network: str) -> tuple[int, str]:
        """Return the place of a network."""
        return (self.networks.index(network) if network in self.networks else len(self.networks), network)

    def protocol(self, record: Record) -> tuple[str, str]:
        """Return the name of a record's protocol with its fidelity, and which of its options were set, in words."""
        evaluator = record.cell.evaluator
        name = self.aliases.protocol_of(evaluator.name, evaluator.options)
        version = f", version {evaluator.version}" if evaluator.version > 1 else ""
        fidelity = record.cell.preset.partition("+")[2]
        also = f", {fidelity}" if fidelity not in ("", "sane") else ""
        return self.called(name) + version + also, notes.evaluator(record, self.aliases.options_of(name))


def values(record: Record, metric: str = HEADLINE) -> list[float]:
    """Return one value per trained network; none where the record lacks the metric."""
    result = record.result
    if metric in (HEADLINE, result.metric):
        return result.values
    if metric == "last":
        return result.last
    numbers = result.best if metric == "best" else [repeat.get(metric) for repeat in result.metrics]
    return [] if None in numbers else [value for value in numbers if value is not None]


Setting = tuple[int | None, str, str, str]
Place = TypeVar("Place")


def build(records: Iterable[Record], layout: Layout | None = None) -> tuple[Table, ...]:
    """Arrange records, in any order, into one table per data set."""
    layout = layout or Layout()
    shown = (record for record in records if values(record, layout.metric))
    return tuple(_table(members, layout) for members in _by_data(shown))


def by_variant(records: Iterable[Record], layout: Layout | None = None) -> list[tuple[Column, list[Record]]]:
    """Return the variants of methods with their records, in any order, as the tables of the data sets tell them apart.

    What is pooled in one setting has the same options and version, even where no option was set and a default changed.
    """
    return [side for members in _by_data(records) for side in _columns(members, layout or Layout())]


def _by_data(records: Iterable[Record]) -> list[list[Record]]:
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in in_order(records):
        data = record.cell.dataset
        groups[str(data["name"]), str(data["fingerprint"]), str(data["image_size"])].append(record)
    return [members for _, members in sorted(groups.items())]


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sort records, one experiment under one name, so that their order of reading changes nothing made of them."""

    def place(record: Record) -> tuple[object, ...]:
        cell = record.cell
        budget = -1 if cell.ipc is None else cell.ipc
        return str(cell.dataset["name"]), cell.method.name, budget, cell.seed, record.key

    return sorted(unified(records), key=place)


def _table(records: Sequence[Record], layout: Layout) -> Table:
    columns = _columns(records, layout)
    settings: dict[Setting, list[Record]] = defaultdict(list)
    whole: dict[Setting, list[Record]] = defaultdict(list)
    for record in records:
        cell, protocol = record.cell, record.protocol
        if cell.ipc is None:  # it belongs to every row of its evaluator
            name = " ".join(layout.protocol(record))
            whole[None, cell.network, f"{cell.evaluator.name} {cell.evaluator.version}", name].append(record)
        else:
            place = f"{cell.evaluator.name} {cell.evaluator.version}", protocol.digest
            settings[cell.ipc, cell.network, *place].append(record)
    rows: list[Row] = []
    covered: set[Setting] = set()
    for setting, members in settings.items():
        named = min((layout.protocol(record) for record in members), key=lambda name: (sum(map(len, name)), name))
        reference: Setting = (None, *setting[1:3], " ".join(named))
        covered.add(reference)
        rows.append(_row(members, whole.get(reference, []), columns, layout, named))
    alone = [members for reference, members in whole.items() if reference not in covered]
    rows += [_row([], members, columns, layout, layout.protocol(members[0])) for members in alone]
    rows.sort(key=lambda row: (row.ipc is None, row.ipc or 0, row.name, layout.network_rank(row.network), row.protocol))
    labelled = [(called(column, layout), column.whole, members) for column, members in columns]
    return Table(
        dataset={key: value for key, value in records[0].cell.dataset.items() if not isinstance(value, (list, tuple))},
        metric=layout.metric,
        columns=tuple(
            replace(column, label=called(column, layout), name=layout.called(column.method)) for column, _ in columns
        ),
        rows=tuple(replace(row, network=layout.called(row.network)) for row in rows),
        figures=notes.acceptance(labelled),
        notes=notes.notes(labelled),
    )


def _columns(records: Sequence[Record], layout: Layout) -> list[tuple[Column, list[Record]]]:
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        cell = record.cell
        own = (cell.method.name, str(cell.method.version), canonical(explicit_of(cell)))
        groups[(*own, record.protocol.digest if cell.ipc is None else "")].append(record)
    parts = [part for _, members in sorted(groups.items()) for part in _split_conflicts(members)]
    columns = [
        (Column(text, members[0].cell.method.name, members[0].cell.ipc is None), members)
        for text, members in zip(_labels(parts), parts, strict=True)
    ]
    return sorted(columns, key=lambda item: (*layout.column_rank(item[0].method, item[0].whole), item[0].label))


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
    labels = list(plain)
    for text in (text for text, count in Counter(plain).items() if count > 1):
        places = [place for place, other in enumerate(plain) if other == text]
        details: list[Mapping[str, Any]] = [
            {"version": cells[p].method.version, **cells[p].method.options}
            | ({"protocol": parts[p][0].protocol.digest[:8]} if cells[p].ipc is None else {})
            for p in places
        ]
        for place, detail in zip(places, notes.distinct(details), strict=True):
            labels[place] = label(text, detail)
    return labels


def called(column: Column, layout: Layout) -> str:
    """Take the name of a variant, or put the name a method is called by in front of its options."""
    if name := layout.labels.get(column.label):
        return name
    return layout.called(column.method) + column.label.removeprefix(column.method)


def _row(
    records: Sequence[Record],
    whole: Sequence[Record],
    columns: Sequence[tuple[Column, list[Record]]],
    layout: Layout,
    named: tuple[str, str],
) -> Row:
    here = {id(record) for record in (*records, *whole)}
    cells: list[Entry | None] = []
    entries: dict[int, Entry] = {}
    for place, (column, members) in enumerate(columns):
        chosen = [record for record in members if id(record) in here]
        cells.append(entry(chosen, layout.metric, layout.signs) if chosen else None)
        if not column.whole and (cell := cells[-1]):
            entries[place] = cell
    base = next((entries[place] for place in entries if columns[place][0].method == layout.gain_over), None)
    others = {place: cell for place, cell in entries.items() if base and columns[place][0].method != layout.gain_over}
    gains = holm({place: difference(cell.groups, base.groups).p_value for place, cell in others.items() if base})
    for place, cell in compared(entries, -1 if layout.lower_is_better else 1).items():
        cells[place] = replace(
            cell,
            gain=cell.mean - base.mean if base and place in others else None,
            gain_p=gains.get(place),
        )
    first = (*records, *whole)[0]
    return Row(
        ipc=first.cell.ipc,
        network=first.cell.network,
        protocol=first.protocol.digest,
        name=named[0],
        options=named[1],
        settings=first.protocol.settings,
        extension=first.protocol.extension if records else "",
        labels=notes.label_type(first),
        selection=first.result.selection,
        cells=tuple(cells),
    )


def compared(cells: Mapping[Place, Entry], sign: int = 1) -> dict[Place, Entry]:
    """Rank the entries of a setting and test those below the best; ``sign`` is -1 where the smallest value is best."""
    order = list(cells)
    ranks = ranking({number: round(100 * sign * cells[place].mean, DECIMALS) for number, place in enumerate(order)})
    tests = _versus_best([cells[place] for place in order], ranks, sign)
    return {
        place: replace(
            cells[place],
            rank=ranks[number] if len(cells[place].values) > 1 else 0,  # one run is no evidence of being the best
            versus_best=tests.get(number),
        )
        for number, place in enumerate(order)
    }


def ranking(shown: Mapping[int, float]) -> dict[int, int]:
    """Return place → 1 for the best, 2 for the second of three or more, else 0; nothing is best of itself."""
    best = sorted(set(shown.values()), reverse=True)
    second = best[1] if len(shown) > 2 and len(best) > 1 else None
    return {
        place: 0 if len(shown) < 2 else 1 if value == best[0] else 2 if value == second else 0
        for place, value in shown.items()
    }


def _versus_best(cells: Sequence[Entry], ranks: Mapping[int, int], sign: int) -> dict[int, float]:
    """Return Holm's p value of every entry below the best of its setting that can be tested."""
    places = range(len(cells))
    best = max(places, key=lambda place: sign * cells[place].mean, default=None)
    if best is None:
        return {}
    below = [place for place in places if place != best and ranks[place] != 1]
    return holm({place: difference(cells[best].groups, cells[place].groups).p_value for place in below})


def entry(
    records: Sequence[Record], metric: str = HEADLINE, signs: Mapping[tuple[str, str], str] | None = None
) -> Entry:
    """Pool the distinct networks of one method in one setting."""
    groups = tuple(map(tuple, by_set(records, lambda record: values(record, metric)).values()))
    changes = {(name, str(used)) for record in records for name, _, used in record.shrunk}
    return Entry(
        groups=groups,
        accuracy=metric in ACCURACIES,
        note=notes.variant(records),
        signs="".join(dict.fromkeys(sign for change, sign in (signs or {}).items() if change in changes)),
        spent=_spent(records),
    )


def _spent(records: Sequence[Record]) -> Spent:
    costs = [record.costs for record in records]
    known = [
        (cost.distill_seconds, record.distilled.count)
        for record, cost in zip(records, costs, strict=True)
        if cost.distill_seconds is not None and record.distilled.count
    ]
    peaks = [cost.peak_bytes for cost in costs if cost.peak_bytes is not None]
    return Spent(
        distill_seconds=fmean(seconds for seconds, _ in known) if known else None,
        image_seconds=fmean(seconds / count for seconds, count in known) if known else None,
        evaluate_seconds=fmean(cost.evaluate_seconds for cost in costs),
        peak_bytes=fmean(peaks) if peaks else None,
        image_bytes=fmean(cost.bytes_images for cost in costs),
        label_bytes=fmean(cost.bytes_labels for cost in costs),
    )
