"""Records in words: what one holds, and how two differ, protocol first."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from ddbench.results.labels import flat, label, value_text
from ddbench.results.schema import Record
from ddbench.tables import notes
from ddbench.tables.board import DECIMALS
from ddbench.tables.stats import mcnemar, population_std


def summary(record: Record) -> list[str]:
    """Return a record as lines of text."""
    cell, result, costs = record.cell, record.result, record.costs
    values = ", ".join(f"{100 * value:.{DECIMALS}f}" for value in result.values)
    lines = [
        f"{cell.dataset['name']}, {label(cell.method.name, cell.method.explicit)}, IPC {record.budget},"
        f" seed {cell.seed}",
        f"evaluated  by {label(cell.evaluator.name, cell.evaluator.explicit)} on {cell.network}",
        f"accuracy   {record.accuracy} %"
        f" ({notes.selection_text(result.selection)}; {len(result.values)} networks: {values})",
        *_metrics(record),
        *(f"{name.lower():<11}{text}" for name, text in notes.facts(record)),
        f"preset     {cell.preset}",
        f"protocol   {record.protocol.digest}{', an extension' if record.protocol.extension else ''}",
        *_listed(flat(record.protocol.settings)),
    ]
    if record.protocol.extension:
        lines.append(f"           {record.protocol.extension}")
    if cell.method.options:
        lines += ["method", *_listed(flat(cell.method.options))]
    if record.shrunk:
        lines.append("paper → used here")
        lines += [f"  {name:<34} {value_text(paper)} → {value_text(used)}" for name, paper, used in record.shrunk]
    kept = record.distilled
    lines.append(f"distilled  {kept.count} images {kept.shape[1:]} in {kept.space}, digest {kept.digest[:8]}")
    peak = "" if costs.peak_bytes is None else f", peak memory {_bytes(costs.peak_bytes)}"
    distil = "not known how long" if costs.distill_seconds is None else f"{costs.distill_seconds:.1f} s"
    lines.append(
        f"cost       {distil} to distil, {costs.evaluate_seconds:.1f} s to evaluate,"
        f" {_bytes(costs.bytes_images)} of images, {_bytes(costs.bytes_labels)} of labels{peak}"
    )
    lines += [
        f"           {seconds:.3g} s per step of {task}"
        for step in costs.steps
        for task, seconds in step.get("seconds_per_step", {}).items()
        if step["step"] != "student"
    ]
    if command := record.environment.get("command"):
        lines.append(f"made by    {command}  (ddbench {record.environment.get('ddbench')})")
    intact = record.computed_digest() == record.digest
    lines.append(f"digest     {record.digest[:16]} {'(content matches)' if intact else '(CONTENT WAS EDITED)'}")
    return lines


def difference(first: Record, second: Record) -> list[str]:
    """Return how two records differ as lines of text: whether they can be compared, then protocol, cell and result."""
    reasons = obstacles(first, second)
    verdict = f"Not comparable: {' and '.join(reasons)}." if reasons else ""
    lines = [verdict or "Same protocol: the two accuracies can be compared."]
    for name, differing in differences(first, second).items():
        lines.append(name)
        lines += [f"  {key}: {value_text(here)} → {value_text(there)}" for key, (here, there) in differing.items()]
    lines += _result(first, second, paired=_same_data(first, second))
    return lines


def obstacles(first: Record, second: Record) -> list[str]:
    """Return why the accuracies of two records cannot be compared; nothing where they can."""
    reasons = ["the protocols differ"] * (first.protocol.digest != second.protocol.digest)
    return reasons + ["the data sets differ"] * (not _same_data(first, second))


def differences(first: Record, second: Record) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Return by part of the records, protocol first, the names of what differs with both values."""
    one, two = first.cell, second.cell
    parts: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
        ("protocol", _protocol(first), _protocol(second)),
        ("data set", _facts(one.dataset), _facts(two.dataset)),
        ("cell", _cell(first), _cell(second)),
        ("method options", one.method.options, two.method.options),
        ("other options", one.other_options, two.other_options),
        ("evaluator options", one.evaluator.options, two.evaluator.options),
        ("software", _software(first), _software(second)),
    ]
    differences = {}
    for name, left, right in parts:
        here, there = notes.distinct([left, right])
        if here:
            differences[name] = {key: (here[key], there[key]) for key in here}
    return differences


def _same_data(first: Record, second: Record) -> bool:
    return _facts(first.cell.dataset) == _facts(second.cell.dataset)


def _result(first: Record, second: Record, *, paired: bool) -> list[str]:
    lines = ["result"]
    if first.distilled.digest == second.distilled.digest:
        lines.append("  the same distilled images")
    gain = 100 * (second.mean - first.mean)
    lines.append(f"  accuracy: {first.accuracy} % → {second.accuracy} % ({gain:+.{DECIMALS}f} points)")
    if paired and first.result.test_images == second.result.test_images:
        test = mcnemar(first.result.correct_bits(0), second.result.correct_bits(0))
        lines.append(
            f"  first networks of each: {test.only_first} test images right only in the first,"
            f" {test.only_second} only in the second (exact McNemar p = {test.p_value:.3g})"
        )
    return lines


def _metrics(record: Record) -> list[str]:
    """Mean ± deviation of the evaluator's further figures, as they are: not all are fractions."""
    repeats = record.result.metrics
    lines = []
    for name in sorted(set.intersection(*map(set, repeats))):
        values = [repeat[name] for repeat in repeats]
        deviation = population_std(values)
        lines.append(f"  {name:<34} {fmean(values):.4g}" + ("" if deviation is None else f" ± {deviation:.2g}"))
    return ["metrics", *lines] if lines else []


def _protocol(record: Record) -> dict[str, Any]:
    return {**record.protocol.settings, "extension": record.protocol.extension, "evaluator": record.cell.evaluator.name}


def _facts(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dataset[key] for key in ("name", "fingerprint", "image_size", "channels", "class_ids")}


def _cell(record: Record) -> dict[str, Any]:
    cell = record.cell
    return {
        "method": cell.method.name,
        "method version": cell.method.version,
        "IPC": record.budget,
        "seed": cell.seed,
        "evaluation seed": cell.evaluation_seed,
        "network": cell.network,
        "preset": cell.preset,
        "repeats": len(record.result.values),
    }


def _software(record: Record) -> dict[str, Any]:
    known = record.environment
    return {key: known[key] for key in ("ddbench", "packages", "device", "precision", "processor") if key in known}


def _listed(table: Mapping[str, Any]) -> list[str]:
    return [f"  {key:<34} {value_text(value)}" for key, value in sorted(table.items())]


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
