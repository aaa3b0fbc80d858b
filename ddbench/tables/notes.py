"""The words around a comparison table: what was measured, how, what was scaled down, and how protocols differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ddbench.keys import canonical
from ddbench.results.labels import explicit_of, flat, value_text
from ddbench.results.runs import same_images
from ddbench.results.schema import SNAPSHOTS, Record
from ddbench.tables.board import Row

#: What an option is at paper scale where the experiment decides it: setting it names a protocol, and shrinks nothing.
DECIDED = "auto"

#: What an entry that a table lacks has in place of a value.
ABSENT = "absent"


def distinct(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, of each table, only the (flattened) entries in which the tables differ."""
    flattened = [flat(table) for table in tables]
    keys = sorted({key for table in flattened for key in table})
    missing = object()

    def text(table: Mapping[str, Any], key: str) -> str:
        value = table.get(key, missing)
        return "" if value is missing else canonical(value)

    differing = [key for key in keys if len({text(table, key) for table in flattened}) > 1]
    return [{key: table.get(key, ABSENT) for key in differing} for table in flattened]


def facts(record: Record) -> list[tuple[str, str]]:
    """Return what holds for a record's whole setting: data set, labels, teacher."""
    lines = [("Data set", f"{record.cell.dataset['name']}, {data_text(record.cell.dataset)}")]
    if labels := label_type(record):
        lines.append(("Labels", labels))
    if teacher := _teacher(record.protocol.settings):
        lines.append(("Teacher", teacher))
    return lines


def data_text(data: Mapping[str, Any]) -> str:
    """Describe a data set by its facts."""
    size = data["image_size"]
    return (
        f"{size}×{size}×{data['channels']}, {data['num_classes']} classes, {data['train_images']:,} training and"
        f" {data['test_images']:,} test images (fingerprint {data['fingerprint'][:8]})"
    )


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


def change_text(name: str, paper: Any, used: Any) -> str:
    """Write what an option was and is: ``400 of 1000 iterations``, ``no fixed size instead of 256``."""
    name = name.partition(".")[2] or name
    if used is None:
        return f"no fixed {name} instead of {value_text(paper)}"
    if paper is None:
        return f"{name} set to {value_text(used)}"
    # Zero of something that is counted seldom means none of it: often as many as needed.
    if type(used) is type(paper) is int and 0 < used < paper and name.endswith("s"):
        return f"{used} of {paper} {name}"
    return f"{name} {value_text(used) or '(empty)'} instead of {value_text(paper) or '(empty)'}"


def evaluator(record: Record, implied: Mapping[str, Any]) -> str:
    """Return in words which options of an evaluator were set or scaled down beyond those that its name implies."""
    own = {key: value for key, value in record.cell.evaluator.explicit.items() if implied.get(key) != value}
    changes = {
        name.partition(".")[2]: (paper, used)
        for name, paper, used in record.shrunk
        if name.startswith("eval.") and paper != DECIDED and implied.get(name.partition(".")[2]) != used
    }
    set_by_hand = [f"{name}={value_text(value)}" for name, value in sorted(own.items()) if name not in changes]
    return ", ".join([*(change_text(name, *values) for name, values in changes.items()), *set_by_hand])


def variant(records: Iterable[Record]) -> str:
    """Return in words which options of a method were set, and what of it was scaled down."""
    texts: dict[str, None] = {}
    for record in records:
        changes = [change for change in record.shrunk if not change[0].startswith("eval.")]
        texts |= dict.fromkeys(change_text(*change) for change in changes)
        known = {name.partition(".")[2] for name, *_ in changes} | {SNAPSHOTS}
        own = {name: value for name, value in explicit_of(record.cell).items() if name.split(".")[-1] not in known}
        texts |= dict.fromkeys(f"{name}={value_text(value)}" for name, value in sorted(own.items()))
        rates = [metrics["learning_rate"] for metrics in record.result.metrics if "learning_rate" in metrics]
        if rates:
            texts[f"learned learning rate {_range(rates)}"] = None
    return ", ".join(texts)


def notes(columns: Sequence[tuple[str, bool, list[Record]]]) -> tuple[str, ...]:
    """Return what a reader of a table must know.

    Args:
        columns: label, whether it is the whole training set, and the records of each column.
    """
    lines = []
    if data_changes := dict.fromkeys(
        change_text(*change)
        for *_, members in columns
        for r in members
        for change in r.shrunk
        if change[0][:5] == "data."
    ):
        lines.append(f"Data: {', '.join(data_changes)}.")
    for _, whole, members in columns:
        if whole:
            rules = _seen(selection_text(record.result.selection) for record in members)
            lines.append(f"The whole training set is trained by a recipe of its own, {rules}; it is not ranked.")
    return tuple(dict.fromkeys([*lines, *_same_images(columns)]))


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
    return [*lines, *_several_machines(columns)]


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


def protocols(rows: Iterable[Row]) -> tuple[str, ...]:
    """Say what each protocol is: all of it for the first of a name, and how the others differ from that one."""
    families: dict[str, dict[tuple[str, ...], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.ipc is not None:
            name = row.name + (f" ({row.options})" if row.options else "")
            own = canonical({key: value for key, value in row.settings.items() if key not in ("network", "batch_size")})
            families[row.name.split(",")[0]][name, row.extension, own].append(row)
    lines = []
    for groups in families.values():
        base: dict[str, Any] = {}
        for (name, extension, _), members in groups.items():
            settings = _terse(members[0].settings)
            shown = {key: value for key, value in settings.items() if base.get(key) != value}
            shown |= {key: ABSENT for key in base if key not in settings}
            text = "; ".join(f"{key}={value_text(value)}" for key, value in sorted(shown.items()))
            also = f"Extension ({extension}): never compare with published cells. " if extension else ""
            lines.append(f"{name}: {also}{'as above but ' if base else ''}{text}. {_where(members)}.")
            base = base or settings
    return tuple(lines)


def _terse(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out how a teacher came about (it is in the records and their digest), and what is said of each row."""
    return {
        key: value
        for key, value in flat(settings).items()
        if key not in ("network", "batch_size", "image_size")
        and not (key.startswith("teacher.") and key.count(".") > 1)
        and key not in ("teacher.mean", "teacher.std")
    }


def _where(rows: Sequence[Row]) -> str:
    """Name the digests of a protocol by network, batch size and IPC."""
    places: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in rows:
        places[row.protocol[:8], row.network, value_text(row.settings.get("batch_size", ""))].append(row.budget)
    return "; ".join(
        f"{digest} ({network}, IPC {', '.join(budgets)}" + (f", batch {batch})" if batch else ")")
        for (digest, network, batch), budgets in places.items()
    )


def acceptance(columns: Sequence[tuple[str, bool, list[Record]]]) -> dict[str, dict[str, str]]:
    """Return acceptance figures by column label, as a range where sets differ."""
    figures: dict[str, dict[str, str]] = {}
    for name, _, members in columns:
        seen: dict[str, list[Any]] = defaultdict(list)
        for record in members:
            own = record.distilled.extra.get("acceptance")
            for key, value in (flat(own) if isinstance(own, Mapping) else {}).items():
                # Lists by class and the teacher that judged stay in the record.
                if not isinstance(value, list) and not key.startswith("teacher."):
                    seen[key].append(value)
        if seen:
            figures[name] = {key: _range(values) for key, values in seen.items()}
    return figures


def _teacher(settings: Mapping[str, Any]) -> str | None:
    teacher = settings.get("teacher")
    if not teacher:
        return None
    known = dict(teacher) if isinstance(teacher, Mapping) else {"name": teacher}
    accuracy = known.pop("accuracy", settings.get("teacher_accuracy"))
    name = known.get("name") or known.get("network") or "trained here"
    return f"{value_text(name)}, accuracy {100 * accuracy:.1f} %" if isinstance(accuracy, float) else str(name)


def _range(values: Sequence[Any]) -> str:
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        low, high = f"{min(values):.3g}", f"{max(values):.3g}"
        return low if low == high else f"{low}–{high}"
    return " or ".join(dict.fromkeys(value_text(value) for value in values))


def _seen(values: Iterable[Any]) -> str:
    return "; ".join(sorted({value_text(value) for value in values if value not in (None, "")}))
