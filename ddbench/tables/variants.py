"""The variants style: one line per variant of a method, with its difference from the reference variant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ddbench.keys import canonical
from ddbench.results import labels
from ddbench.results.schema import Record
from ddbench.tables.board import DECIMALS, POINTS, Entry, Grid, Heading, Shown, Value, in_reading_order
from ddbench.tables.leaderboard import HEADLINE, Layout, by_variant, entry, values
from ddbench.tables.stats import difference, holm

#: What settings differ in, in the order of their columns.
SETTING = ("Data set", "IPC", "Evaluator", "Network", "Preset", "Protocol")
NOTES = (
    "Mean ± population standard deviation over all runs (distilled sets × networks trained on each). Interval:"
    " Student's t over the means of distilled sets, over networks where there is one set.",
)

Setting = tuple[str, ...]


def grid(records: Iterable[Record], layout: Layout, title: str, reference: str = "") -> Grid:
    """Return one line per setting and variant: the reference first, then named variants, then the others.

    Args:
        records: in any order.
        layout: what variants and methods are called, and the metric.
        title: of the table.
        reference: the variant (as tables show it, or by its name) that the others are compared with; the one with the
            fewest options of its own when empty.
    """
    groups = grouped(record for record in records if values(record, layout.metric))
    labels = list(dict.fromkeys(label for _, label in groups))
    base = reference_of(groups, layout, reference)
    named = list(layout.labels)
    order = {label: (label != base, named.index(label) if label in named else len(named)) for label in labels}
    keys = sorted(groups, key=lambda key: (in_reading_order(key[0]), order[key[1]], key[1]))
    entries = {key: entry(groups[key], layout.metric) for key in keys}
    corrected = holm({key: _test(entries, key, base) for key in keys})
    shown = [place for place in range(len(SETTING)) if len({key[0][place] for key in keys}) > 1 or place in (0, 1)]
    rows = []
    for key in keys:
        setting, label = key
        cells: list[Value] = [setting[place] for place in shown]
        method = groups[key][0].cell.method.name
        cells.append(layout.labels.get(label) or layout.called(method) + label.removeprefix(method))
        rows.append((*cells, *_numbers(entries, key, base, corrected.get(key))))
    what = "Accuracy" if layout.metric == HEADLINE else layout.metric
    headings = (
        *(Heading(SETTING[place]) for place in shown),
        Heading("Variant"),
        Heading(what, "%"),
        Heading("95 % interval"),
        Heading("Difference", POINTS),
        Heading("95 % of difference"),
        Heading("p", decimals=3),
        Heading("Runs"),
    )
    compared = f"Differences are from {layout.labels.get(base, base)}; p by Welch's t test, Holm's correction over all."
    meanings = tuple(f"{name}: {label}." for label, name in layout.labels.items() if label in labels and name != label)
    return Grid(title, headings, tuple(rows), (*NOTES, *[compared] * bool(base), *meanings))


def grouped(records: Iterable[Record]) -> dict[tuple[Setting, str], list[Record]]:
    """Return records by setting (all but the variant of the method) and variant."""
    groups: dict[tuple[Setting, str], list[Record]] = defaultdict(list)
    for column, members in by_variant(records):
        for record in members:
            groups[setting_of(record), column.label].append(record)
    return dict(groups)


def setting_of(record: Record) -> Setting:
    """Return what two variants must share to be compared: names to show, then digests."""
    cell = record.cell
    data = cell.dataset
    shown = (str(data["name"]), record.budget, labels.label(cell.evaluator.name, cell.evaluator.explicit), cell.network)
    digests = (str(data["fingerprint"]), str(data["image_size"]), canonical(cell.evaluator.options))
    return (*shown, cell.preset, record.protocol.digest[:8], record.protocol.digest, *digests)


def reference_of(groups: dict[tuple[Setting, str], list[Record]], layout: Layout, wanted: str = "") -> str:
    """Return the label of the variant that others are compared with, or "" where none stands out."""
    count: dict[str, int] = {}
    for (_, label), members in groups.items():
        if members[0].cell.ipc is None:
            continue
        if wanted and wanted in (label, layout.labels.get(label)):
            return label
        count[label] = len(labels.explicit_of(members[0].cell))
    fewest = [label for label, number in count.items() if number == min(count.values())]
    return fewest[0] if len(fewest) == 1 and len(count) > 1 and not wanted else ""


def _test(entries: dict[tuple[Setting, str], Entry], key: tuple[Setting, str], base: str) -> float | None:
    other = entries.get((key[0], base))
    if other is None or key[1] == base:
        return None
    return difference(entries[key].groups, other.groups).p_value


def _numbers(
    entries: dict[tuple[Setting, str], Entry], key: tuple[Setting, str], base: str, p: float | None
) -> Sequence[Value]:
    runs, other = entries[key], entries.get((key[0], base))
    gain = None if other is None or key[1] == base else 100 * (runs.mean - other.mean)
    tested = None if other is None or key[1] == base else difference(runs.groups, other.groups)
    return (
        Shown(runs.text, 100 * runs.mean),
        _interval(runs.interval),
        gain,
        _interval(None if tested is None else tested.interval),
        p,
        runs.runs,
    )


def _interval(ends: tuple[float, float] | None) -> str:
    """Return an interval of shares in percent; "" where nothing can be said."""
    return "" if ends is None else " to ".join(f"{100 * end:.{DECIMALS}f}" for end in ends)
