"""The words around a comparison table: what was measured, how, what was scaled down, and how protocols differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ddbench.keys import canonical
from ddbench.results.labels import flat, label, value_text
from ddbench.results.runs import same_images
from ddbench.results.schema import Record

EXTENSION = "extension: never compare with published cells"


def distinct(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, of each table, only the (flattened) entries in which the tables differ."""
    flattened = [flat(table) for table in tables]
    keys = sorted({key for table in flattened for key in table})
    missing = object()

    def text(table: Mapping[str, Any], key: str) -> str:
        value = table.get(key, missing)
        return "" if value is missing else canonical(value)

    differing = [key for key in keys if len({text(table, key) for table in flattened}) > 1]
    return [{key: table.get(key, "absent") for key in differing} for table in flattened]


def title(record: Record) -> str:
    """Return a table's heading: evaluator, options that were set for it, preset, and whether it is an extension."""
    cell = record.cell
    name = label(cell.evaluator.name, cell.evaluator.explicit)
    version = f", version {cell.evaluator.version}" if cell.evaluator.version > 1 else ""
    return (
        f"{name}{version}, {cell.preset}{', extension' if record.protocol.extension and cell.ipc is not None else ''}"
    )


def facts(records: Sequence[Record], metric: str = "") -> tuple[tuple[str, str], ...]:
    """Return what holds for a whole table: data set, evaluator, labels, teacher, metric (the headline: "") it shows."""
    cell = records[0].cell
    data = cell.dataset
    size, channels = data["image_size"], data["channels"]
    lines = [
        (
            "Data set",
            f"{data['name']} (fingerprint {data['fingerprint'][:8]}), {size}×{size}×{channels},"
            f" {data['num_classes']} classes, {data['train_images']:,} training and"
            f" {data['test_images']:,} test images",
        ),
        ("Evaluator", title(records[0])),
    ]
    if labels := _seen(map(label_type, records)):
        lines.append(("Labels", labels))
    if teachers := _seen(_teacher(record.protocol.settings) for record in records):
        lines.append(("Teacher", teachers))
    if metric:
        lines.append(("Metric", metric))
    lines.append(("Accuracy", _seen(selection_text(record.result.selection) for record in records)))
    return tuple(lines)


def label_type(record: Record) -> str:
    """Return whether students were trained on hard or soft labels, or "" where the protocol does not say."""
    settings = record.protocol.settings
    return next((value_text(settings[key]) for key in ("label_type", "labels") if key in settings), "")


def selection_text(selection: str) -> str:
    """Explain a selection rule."""
    if selection == "last":
        return "after the last epoch"
    if selection.startswith("best"):
        return f"{selection} (the epoch is chosen on the test split)"
    return selection


def notes(columns: Sequence[tuple[str, bool, list[Record]]], rows: Mapping[tuple[str, str], Record]) -> tuple[str, ...]:
    """Return the notes below a table.

    Args:
        columns: label, whether it is the whole training set, and the records of each column.
        rows: one record for each row with a protocol, by (budget, network).
    """
    lines: list[str] = []
    extensions = {r.protocol.extension for _, whole, members in columns for r in members if not whole}
    lines += [f"{EXTENSION} ({text})." for text in sorted(filter(None, extensions))]
    lines += _protocols(rows)
    evaluator_changes = _scaled_down((r for _, whole, members in columns for r in members if not whole), "eval.")
    if evaluator_changes:
        lines.append(f"Evaluator, paper → used here: {evaluator_changes}.")
    if data_changes := _scaled_down((r for *_, members in columns for r in members), "data."):
        lines.append(f"Data, paper → used here: {data_changes}.")
    for name, whole, members in columns:
        if text := _scaled_down(members, "method."):
            lines.append(f"{name}, paper → used here: {text}.")
        if whole:
            lines += _whole(name, members)
        if text := _acceptance(members):
            lines.append(f"{name}, acceptance: {text}.")
        if rates := _learned_rates(members):
            lines.append(f"{name} trains with the learning rate that its set has learned: {rates}.")
    return (*lines, *_same_images(columns))


def _same_images(columns: Sequence[tuple[str, bool, list[Record]]]) -> list[str]:
    """Say where seeds or columns are the same images, so that a reader knows why there are fewer networks than runs."""
    lines = []
    for name, whole, members in columns:
        for seeds in same_images(((r.budget, r.cell.seed), r) for r in members if not whole):
            if len(several := dict.fromkeys(str(seed) for _, seed in seeds)) > 1:
                lines.append(
                    f"{name}, IPC {seeds[0][0]}: seeds {', '.join(several)} gave the same images, whose networks count"
                    " once."
                )
    for alike in same_images(((r.budget, name), r) for name, whole, members in columns for r in members if not whole):
        if len(names := dict.fromkeys(name for _, name in alike)) > 1:
            lines.append(f"{' and '.join(names)} are the same images at IPC {alike[0][0]}.")
    return [*dict.fromkeys(lines), *_several_machines(columns)]


def _several_machines(columns: Sequence[tuple[str, bool, list[Record]]]) -> list[str]:
    """Say where networks were trained on several kinds of machine: tables count the first result of each."""
    lines = []
    for name, _, members in columns:
        kinds: dict[tuple[object, ...], dict[str, None]] = {}
        for r in members:
            place = r.budget, r.cell.seed, r.cell.evaluation_seed, r.cell.network, r.protocol.digest, r.distilled.digest
            kind = f"{r.environment.get('device')} {r.environment.get('precision')}"
            kinds.setdefault(place, {})[kind] = None
        for (budget, seed, *_), machines in kinds.items():
            if len(machines) > 1:
                lines.append(
                    f"{name}, IPC {budget}, seed {seed}: measured on {' and on '.join(machines)}; the first counts."
                )
    return lines


def _learned_rates(members: Sequence[Record]) -> str:
    rates = [metrics["learning_rate"] for r in members for metrics in r.result.metrics if "learning_rate" in metrics]
    return _range(rates) if rates else ""


def _whole(name: str, members: Sequence[Record]) -> list[str]:
    rules = _seen(selection_text(record.result.selection) for record in members)
    extensions = "; ".join(sorted({r.protocol.extension for r in members} - {""}))
    recipe = f" ({extensions})" if extensions else ""
    return [f"{name} is the whole training set under its own recipe{recipe}, accuracy {rules}; it is not ranked."]


def _protocols(rows: Mapping[tuple[str, str], Record]) -> list[str]:
    """Say what the protocol's settings are and in which of them rows differ."""
    if not rows:
        return []
    settings = [record.protocol.settings for record in rows.values()]
    differing = distinct(settings)
    # How a teacher came about (teacher.source.recipe.…) is in the records and their digest; a page need not list it.
    common = {key: v for key, v in flat(settings[0]).items() if key not in differing[0] and key.count(".") < 2}
    lines = [f"Protocol: {_pairs(common)}."] if common else []
    budgets: dict[tuple[str, str, str], list[str]] = {}
    for ((budget, network), record), own in zip(rows.items(), differing, strict=True):
        budgets.setdefault((network, record.protocol.digest[:8], _pairs(own)), []).append(budget)
    for (network, digest, own_text), several in budgets.items():
        detail = f", {own_text}" if own_text else ""
        lines.append(f"IPC {', '.join(several)} on {network}: protocol {digest}{detail}.")
    return lines


def _pairs(settings: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}={value_text(value)}" for key, value in sorted(settings.items()))


def _scaled_down(records: Iterable[Record], scope: str) -> str:
    """Return ``option paper → used`` of one scope; several values of several rows are separated by ``or``."""
    pairs: dict[str, dict[str, None]] = {}
    for record in records:
        for name, paper, used in record.shrunk:
            if name.startswith(scope):
                change = f"{value_text(paper)} → {value_text(used)}"
                pairs.setdefault(name.removeprefix(scope), {})[change] = None
    return ", ".join(f"{name} {' or '.join(changes)}" for name, changes in sorted(pairs.items()))


def _teacher(settings: Mapping[str, Any]) -> str | None:
    teacher = settings.get("teacher")
    if not teacher:
        return None
    known = dict(teacher) if isinstance(teacher, Mapping) else {"name": teacher}
    accuracy = known.pop("accuracy", settings.get("teacher_accuracy"))
    name = known.get("name") or known.get("network") or "trained here"
    return f"{value_text(name)}, accuracy {100 * accuracy:.1f} %" if isinstance(accuracy, float) else str(name)


def _acceptance(records: Sequence[Record]) -> str:
    """Return a method's acceptance figures, as a range where its sets differ."""
    seen: dict[str, list[Any]] = {}
    for record in records:
        figures = record.distilled.extra.get("acceptance")
        if isinstance(figures, Mapping):
            for name, value in flat(figures).items():
                if not isinstance(value, list):  # per-class lists stay in the record
                    seen.setdefault(name, []).append(value)
    return ", ".join(f"{name} {_range(values)}" for name, values in seen.items())


def _range(values: Sequence[Any]) -> str:
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        low, high = f"{min(values):.3g}", f"{max(values):.3g}"
        return low if low == high else f"{low}–{high}"
    return " or ".join(dict.fromkeys(value_text(value) for value in values))


def _seen(values: Iterable[Any]) -> str:
    return "; ".join(sorted({value_text(value) for value in values if value not in (None, "")}))
