"""What the page shows, as compact plain data: repeated tables are stored once and referred to by number."""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import ddbench
from ddbench.figures.sheets import Sheet
from ddbench.keys import canonical
from ddbench.plugin.options import parse_value
from ddbench.results import labels
from ddbench.results.claims import Claim
from ddbench.results.schema import Record
from ddbench.sets.declared import IMPORTED
from ddbench.site import rows as grouping
from ddbench.tables.reproduced import Pair

#: Points of a training curve at most; the first and the last are always among them.
CURVE_POINTS = 40
#: Characters of one text at most (a record can hold anything); longer ones end in "…".
MOST_TEXT = 4000


class Pool:
    """Values that many records share, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._known: dict[str, int] = {}

    def put(self, value: Any) -> int:
        """Return the number of a value, storing it when it is new."""
        value = clean(value)
        text = canonical(value)
        if text not in self._known:
            self._known[text] = len(self.values)
            self.values.append(value)
        return self._known[text]


def page_data(
    records: Sequence[Record],
    claims: Sequence[Claim] = (),
    *,
    sources: Mapping[str, str] | None = None,
    sheets: Mapping[str, Sheet] | None = None,
    boards: Sequence[Mapping[str, Any]] = (),
    pairs: Sequence[Pair] = (),
    methods: Mapping[str, Mapping[str, str]] | None = None,
    baseline: str = "random",
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """Return everything the page is made from.

    Args:
        records: of the registry, in a fixed order.
        claims: published numbers, shown beside the measured ones and never mixed with them.
        sources: key → citation of the claims.
        sheets: contact sheets by digest of the distilled set.
        boards: comparison tables as plain data (:mod:`ddbench.site.boards`).
        pairs: claims beside what was measured for the same cell.
        methods: name → summary, paper and citation of installed methods.
        baseline: the method over which gains are counted.
        problems: what was left out, and why.
    """
    pool = Pool()
    packed = [_record(record, pool) for record in records]
    used = {claim.source for claim in claims}
    places = {record.relative_path().as_posix(): number for number, record in enumerate(records)}
    return {
        "version": ddbench.__version__,
        "baseline": baseline,
        "records": packed,
        "rows": [_row(row) for row in grouping.rows(records, baseline)],
        "claims": [_claim(claim, pool) for claim in claims],
        "sources": {key: clean(text) for key, text in sorted((sources or {}).items()) if key in used},
        "sheets": {digest[:20]: _sheet(sheet) for digest, sheet in sorted((sheets or {}).items())},
        "pairs": [_pair(pair, places) for pair in pairs],
        "boards": [clean(board) for board in boards],
        "methods": clean(methods or {}),
        "problems": [clean(text) for text in problems],
        "pool": pool.values,
    }


def clean(value: Any) -> Any:
    """Return plain data that JSON can hold: numbers that are not finite become None, very long texts are cut."""
    if isinstance(value, str):
        return value if len(value) <= MOST_TEXT else value[: MOST_TEXT - 1] + "…"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    return value


def command(record: Record) -> str:
    """Return the command that makes this record again, on any machine that has the data set and the plugins.

    ``SET`` stands for an imported set, which only the one who has it can name.
    """
    cell = record.cell
    words = ["-e", cell.evaluator.name, "-d", str(cell.dataset["name"])]
    if IMPORTED in cell.method.options:
        words = ["ddbench", "evaluate", "SET", "--name", cell.method.name, *words, "-n", cell.network]
    else:
        words = ["ddbench", "run", "-m", cell.method.name, *words]
        if cell.ipc is not None:
            words += ["--ipc", str(cell.ipc)]
        words += ["-n", cell.network, "--seed", str(cell.seed)]
    if cell.evaluation_seed:
        words += ["--evaluation-seed", str(cell.evaluation_seed)]
    words += ["--repeats", str(len(record.result.values)), "--preset", cell.preset]
    scopes = {"method": cell.method.explicit, "eval": cell.evaluator.explicit, **cell.other_options}
    for scope, options in scopes.items():
        for name, value in sorted(options.items()):
            words += ["-o", f"{scope}.{name}={option_text(value)}"]
    return shlex.join(words)


def option_text(value: Any) -> str:
    """Write a value so that ``-o`` reads it back as the same."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value if value and parse_value(value) == value and value == value.strip() else _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_quoted(v) if isinstance(v, str) else option_text(v) for v in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(k))} = {_inner(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _inner(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else option_text(value)


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)


def _record(record: Record, pool: Pool) -> list[Any]:
    """Pack a record; the page's ``decode.js`` knows the order."""
    cell, result, costs = record.cell, record.result, record.costs
    data = {key: value for key, value in cell.dataset.items() if key not in ("class_names", "class_ids")}
    method, evaluator = cell.method, cell.evaluator
    kept = record.distilled
    return [
        record.key[:16],
        record.digest[:16],
        pool.put(data),
        pool.put({"label": grouping.label(record), **method.model_dump(), "other": labels.flat(cell.other_options)}),
        cell.ipc,
        cell.seed,
        pool.put(evaluator.model_dump()),
        pool.put(cell.network),
        cell.evaluation_seed,
        pool.put(cell.preset),
        pool.put(
            {
                "digest": record.protocol.digest,
                "extension": record.protocol.extension,
                "labels": grouping.label_type(record),
                "settings": labels.flat(record.protocol.settings),
            }
        ),
        [result.metric, result.selection, result.test_images],
        [_fraction(value) for value in result.values],
        [_fraction(value) for value in result.last],
        [_fraction(value) for value in result.best],
        [[[epoch, _fraction(value)] for epoch, value in thinned(curve)] for curve in result.curves],
        [kept.key, kept.digest[:20], kept.count, pool.put([*kept.shape[1:], kept.space, kept.whole])],
        pool.put(labels.flat({key: value for key, value in kept.extra.items() if not isinstance(value, list)})),
        pool.put([list(entry) for entry in record.shrunk]),
        [
            None if costs.distill_seconds is None else round(costs.distill_seconds, 2),
            round(costs.evaluate_seconds, 2),
            costs.peak_bytes,
            costs.bytes_images,
            costs.bytes_labels,
        ],
        [[str(step.get("step", "")), round(float(step.get("seconds", 0)), 2)] for step in costs.steps],
        pool.put(record.environment),
        command(record),
        record.relative_path().as_posix(),
    ]


def thinned(curve: Sequence[tuple[int, float]], most: int = CURVE_POINTS) -> list[tuple[int, float]]:
    """Return at most ``most`` points of a curve, evenly spread, with both ends."""
    if len(curve) <= most:
        return list(curve)
    return [curve[round(number * (len(curve) - 1) / (most - 1))] for number in range(most)]


def _fraction(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)


def _row(row: grouping.Row) -> list[Any]:
    low, high = row.interval or (None, None)
    numbers = map(_fraction, (row.mean, row.std, low, high))
    return [list(row.records), *numbers, row.runs, len(row.groups), _fraction(row.gain)]


def _pair(pair: Pair, places: Mapping[str, int]) -> list[Any]:
    claim = pair.claim
    return [
        f"{claim.method}, {claim.dataset}, IPC {'full' if claim.ipc is None else claim.ipc}",
        f"{claim.evaluator}, {claim.network}",
        f"{claim.source}, {claim.table}",
        claim.value,
        claim.deviation,
        round(100 * pair.ours.mean, 3),
        None if pair.ours.std is None else round(100 * pair.ours.std, 3),
        pair.verdict,
        [places[path] for path in pair.records if path in places],
    ]


def _claim(claim: Claim, pool: Pool) -> list[Any]:
    texts = (claim.dataset, claim.method, claim.evaluator, claim.network, claim.label_type, claim.metric)
    return [
        *(pool.put(text) for text in texts),
        claim.ipc,
        claim.value,
        claim.deviation,
        claim.text,
        pool.put(claim.kind),
        pool.put(claim.source),
        pool.put(claim.table),
        pool.put(claim.note),
    ]


def _sheet(sheet: Sheet) -> dict[str, Any]:
    about = sheet.about
    return {
        "image": f"data:{sheet.mime};base64,{base64.b64encode(sheet.image).decode('ascii')}",
        "tile": list(about.tile),
        "columns": max((shown.count for shown in about.classes), default=1),
        "classes": [[shown.name, shown.count, list(shown.prompts)] for shown in about.classes],
        "num_classes": about.num_classes,
    }
