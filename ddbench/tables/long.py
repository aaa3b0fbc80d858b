"""The long style: one line per cell, with what papers leave out: costs, bytes, gain over the baseline, protocol."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ddbench.keys import canonical
from ddbench.results.labels import label
from ddbench.results.schema import Record
from ddbench.tables import notes
from ddbench.tables.board import POINTS, SPREAD, Grid, Heading, Value, in_reading_order
from ddbench.tables.leaderboard import HEADLINE, Layout, entry, in_order, values

HEADINGS = (
    *map(Heading, ("Data set", "IPC", "Method", "Evaluator", "Network", "Labels", "Preset", "Protocol")),
    Heading("Accuracy", "%"),
    *SPREAD,
    Heading("Runs"),
    Heading("Gain", POINTS),
    Heading("Images", "kB"),
    Heading("Label bytes", "kB"),
    Heading("Distil", "s"),
    Heading("Evaluate", "s"),
    Heading("Selection"),
    Heading("Scaled down"),
    Heading("Extension"),
)
NOTES = (
    "Accuracy: mean ± population standard deviation over all runs (distilled sets × networks trained on each)."
    " Interval: Student's t over the means of distilled sets, over networks where there is one set.",
    "Seconds are those of the machine that ran the cell: to distil one set, and to evaluate all its networks.",
)


def grid(records: Iterable[Record], layout: Layout, title: str) -> Grid:
    """Return one line per data set, budget, method, evaluator, network and protocol, in that order."""
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in in_order(records):
        if values(record, layout.metric):
            groups[(*_setting(record), *_method(record))].append(record)
    bases: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for members in groups.values():
        if members[0].cell.method.name == layout.gain_over:
            bases[_setting(members[0])] += members
    rows = [_line(members, bases.get(_setting(members[0]), []), layout) for members in groups.values()]
    notes_ = (*NOTES, f"Gain: over {layout.gain_over} under the same protocol.") if layout.gain_over else NOTES
    if layout.metric == HEADLINE:
        return Grid(title, HEADINGS, tuple(sorted(rows, key=_order)), notes_)
    headings = tuple(
        replace(heading, name=layout.metric) if heading.name == "Accuracy" else heading for heading in HEADINGS
    )
    return Grid(f"{title}: {layout.metric}", headings, tuple(sorted(rows, key=_order)), notes_)


def _setting(record: Record) -> tuple[str, ...]:
    cell = record.cell
    data = cell.dataset["name"], cell.dataset["fingerprint"], str(cell.dataset["image_size"])
    return (*data, record.budget, cell.evaluator.name, cell.network, cell.preset, record.protocol.digest)


def _method(record: Record) -> tuple[str, ...]:
    method = record.cell.method
    return method.name, str(method.version), canonical(method.options), canonical(record.cell.other_options)


def _line(records: Sequence[Record], base: Sequence[Record], layout: Layout) -> tuple[Value, ...]:
    first = records[0]
    cell, costs = first.cell, [record.costs for record in records]
    known = [cost.distill_seconds for cost in costs if cost.distill_seconds is not None]
    runs = entry(records, layout.metric)
    gain = None
    if base and cell.method.name != layout.gain_over:
        gain = 100 * (runs.mean - entry(base, layout.metric).mean)
    return (
        cell.dataset["name"],
        first.budget,
        layout.variant(cell),
        label(cell.evaluator.name, cell.evaluator.explicit),
        layout.called(cell.network),
        notes.label_type(first) or None,
        cell.preset,
        first.protocol.digest[:8],
        *runs.percent,
        runs.runs,
        gain,
        statistics.fmean(cost.bytes_images for cost in costs) / 1000,
        statistics.fmean(cost.bytes_labels for cost in costs) / 1000,
        statistics.fmean(known) if known else None,
        statistics.fmean(cost.evaluate_seconds for cost in costs),
        notes.selection_text(first.result.selection),
        str(len(first.shrunk)) if first.shrunk else None,
        "yes" if first.protocol.extension and cell.ipc is not None else None,
    )


def _order(row: tuple[Value, ...]) -> tuple[object, ...]:
    return *in_reading_order([*map(str, row[:8])]), str(row)
