"""What the page shows, as plain data by name; tables that many records share are stored once."""

from __future__ import annotations

import base64
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import ddbench
from ddbench.figures.sheets import Sheet
from ddbench.keys import canonical
from ddbench.plugin.options import parse_value
from ddbench.results import labels
from ddbench.results.claims import Aliases, Claim
from ddbench.results.schema import Record
from ddbench.sets.declared import IMPORTED
from ddbench.site import rows as grouping
from ddbench.tables import notes
from ddbench.tables.declared import Mark
from ddbench.tables.reproduced import Pair

#: Points of a training curve at most; the first and the last are always among them.
CURVE_POINTS = 40
#: Characters of one text at most (a record can hold anything); longer ones end in "…".
MOST_TEXT = 4000
#: What a board holds to be saved.
FILES = ("csv", "latex")
#: Fields of a record whose values many records share: the page holds each value once, records its number.
SHARED = ("data", "method", "evaluator", "protocol", "extra", "shrunk", "environment")


def page_data(
    records: Sequence[Record],
    claims: Sequence[Claim] = (),
    *,
    sources: Mapping[str, str] | None = None,
    aliases: Aliases | None = None,
    sheets: Mapping[str, Sheet] | None = None,
    boards: Sequence[Mapping[str, Any]] = (),
    pairs: Sequence[Pair] = (),
    methods: Mapping[str, Mapping[str, str]] | None = None,
    names: Mapping[str, str] | None = None,
    marks: Sequence[Mark] = (),
    baseline: str = "random",
    first: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """Return everything the page is made from.

    Args:
        records: of the registry, in a fixed order.
        claims: published numbers, shown beside the measured ones and never mixed with them.
        sources: key → citation of the claims.
        aliases: what published names mean in ddbench.
        sheets: contact sheets by digest of the distilled set.
        boards: comparison tables as plain data (:mod:`ddbench.site.boards`).
        pairs: claims beside what was measured for the same cell.
        methods: name → summary, paper, venue and citation of methods.
        names: what publications call methods, protocols, networks and data sets.
        marks: signs of what was scaled down, and what they mean.
        baseline: the method over which gains are counted.
        first: methods that come first, which are the baselines.
        problems: what was left out, and why.
    """
    shared: dict[str, int] = {}
    aliases = aliases or Aliases()
    signs = {(mark.option, mark.value): mark.sign for mark in marks}
    used = {claim.source for claim in claims}
    keys = {record.relative_path().as_posix(): record.key[:16] for record in records}
    content = {
        "version": ddbench.__version__,
        "baseline": baseline,
        "first": first,
        "records": [_record(record, shared, aliases) for record in records],
        "rows": [_row(row) for row in grouping.rows(records, baseline, signs)],
        "claims": [_claim(claim, aliases) for claim in claims],
        "sources": {key: text for key, text in sorted((sources or {}).items()) if key in used},
        "pairs": [_pair(pair, keys) for pair in pairs],
        "methods": methods or {},
        "names": names or {},
        "signs": {mark.sign: mark.text for mark in marks},
        "problems": problems,
        "shared_fields": SHARED,
        "shared": [json.loads(text) for text in shared],
    }
    return {
        **clean(content),
        # Files to save are whole, however long.
        "boards": [{**clean(board), **{name: board[name] for name in FILES if name in board}} for board in boards],
        "sheets": {digest[:20]: _sheet(sheet) for digest, sheet in sorted((sheets or {}).items())},
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
        return value if value and parse_value(value) == value and value == value.strip() else json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inner, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_inner(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _inner(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else option_text(value)


def _record(record: Record, shared: dict[str, int], aliases: Aliases) -> dict[str, Any]:
    """Return what the page shows of a record; of :data:`SHARED` the number under which ``shared`` has its JSON."""
    cell, result, costs = record.cell, record.result, record.costs
    shown = {
        "key": record.key[:16],
        "digest": record.digest[:16],
        "data": {key: value for key, value in cell.dataset.items() if key not in ("class_names", "class_ids")},
        "method": {
            **cell.method.model_dump(),
            "label": labels.label_of(cell),
            "other": labels.flat(cell.other_options),
        },
        "ipc": cell.ipc,
        "seed": cell.seed,
        "evaluator": cell.evaluator.model_dump(),
        "network": cell.network,
        "evaluationSeed": cell.evaluation_seed,
        "preset": cell.preset,
        "protocol": {
            "digest": record.protocol.digest,
            "published": aliases.protocol_of(cell.evaluator.name, cell.evaluator.options),
            "extension": record.protocol.extension,
            "labels": notes.label_type(record) or "unknown",
            "settings": labels.flat(record.protocol.settings),
        },
        "metric": result.metric,
        "selection": result.selection,
        "values": [_fraction(value) for value in result.values],
        "curves": [[[epoch, _fraction(value)] for epoch, value in thinned(curve)] for curve in result.curves],
        "set": {"digest": record.distilled.digest[:20], "count": record.distilled.count},
        "extra": labels.flat({key: v for key, v in record.distilled.extra.items() if not isinstance(v, list)}),
        "shrunk": record.shrunk,
        "costs": {
            "distil": None if costs.distill_seconds is None else round(costs.distill_seconds, 2),
            "evaluate": round(costs.evaluate_seconds, 2),
            "peak": costs.peak_bytes,
            "images": costs.bytes_images,
            "labels": costs.bytes_labels,
        },
        "steps": [[str(step.get("step", "")), round(float(step.get("seconds", 0)), 2)] for step in costs.steps],
        "environment": record.environment,
        "command": command(record),
        "path": record.relative_path().as_posix(),
    }
    numbers = {name: shared.setdefault(canonical(clean(shown[name])), len(shared)) for name in SHARED}
    return {**shown, **numbers}


def thinned(curve: Sequence[tuple[int, float]], most: int = CURVE_POINTS) -> list[tuple[int, float]]:
    """Return at most ``most`` points of a curve, evenly spread, with both ends."""
    if len(curve) <= most:
        return list(curve)
    return [curve[round(number * (len(curve) - 1) / (most - 1))] for number in range(most)]


def _fraction(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)


def _row(row: grouping.Row) -> dict[str, Any]:
    low, high = row.entry.interval or (None, None)
    percent = {"mean": row.entry.mean, "std": row.entry.std, "low": low, "high": high, "gain": row.gain}
    shown = {name: None if value is None else round(100 * value, 3) for name, value in percent.items()}
    first = row.first
    return {
        "records": row.records,
        "label": labels.label_of(first.cell),
        "preset": first.cell.preset,
        "explicit": first.cell.evaluator.explicit,
        "digest": first.protocol.digest,
        **shown,
        "text": row.entry.text,
        "runs": row.entry.runs,
        "sets": row.entry.sets,
        "rank": row.entry.rank,
        "tied": row.entry.tied,
        "signs": row.entry.signs,
    }


def _pair(pair: Pair, keys: Mapping[str, str]) -> dict[str, Any]:
    claim = pair.claim
    return {
        "cell": f"{claim.method}, {claim.dataset}, IPC {'full' if claim.ipc is None else claim.ipc}",
        "protocol": f"{claim.evaluator}, {claim.network}",
        "source": f"{claim.source}, {claim.table}",
        "claimed": claim.value,
        "ours": round(100 * pair.ours.mean, 3),
        "spread": None if pair.ours.std is None else round(100 * pair.ours.std, 3),
        "verdict": pair.verdict.partition(":")[0],
        "key": next((keys[path] for path in pair.records if path in keys), None),
    }


def _claim(claim: Claim, aliases: Aliases) -> dict[str, Any]:
    return {
        "dataset": claim.dataset,
        "method": claim.method,
        "protocol": claim.evaluator,
        "network": claim.network,
        "ourNetwork": aliases.network_of(claim),
        "labels": claim.label_type,
        "metric": claim.metric,
        "ipc": claim.ipc,
        "mean": claim.value,
        "std": claim.deviation,
        "text": claim.text,
        "whose": claim.kind,
        "source": claim.source,
        "place": claim.table,
        "note": claim.note,
    }


def _sheet(sheet: Sheet) -> dict[str, Any]:
    about = sheet.about
    return {
        "image": f"data:{sheet.mime};base64,{base64.b64encode(sheet.image).decode('ascii')}",
        "tile": about.tile,
        "columns": max((shown.count for shown in about.classes), default=1),
        "classes": [shown.model_dump(include={"name", "count", "prompts"}) for shown in about.classes],
        "num_classes": about.num_classes,
    }
