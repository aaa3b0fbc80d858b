"""Sweeps: accuracy with its interval against one option of a method, the others as in the reference variant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from ddbench.keys import canonical
from ddbench.leaderboard import Layout, entry
from ddbench.records import Record
from ddbench.reports import notes
from ddbench.reports.board import Entry
from ddbench.reports.figures import COLOURS, figure
from ddbench.reports.variants import SETTING, Setting, grouped, reference_of

Points = list[tuple[Any, Entry]]


def sweep(
    records: Iterable[Record], option: str, reference: str = "", layout: Layout | None = None
) -> dict[str, Points]:
    """Return, by setting in words, the values of an option in order with the runs of each.

    The reference variant (see :func:`ddbench.reports.variants.grid`) is one of the points, with its own value.
    """
    groups = grouped(records)
    base = reference_of(groups, layout or Layout(), reference)
    settings: dict[Setting, list[Record]] = defaultdict(list)
    for (setting, _), members in groups.items():
        settings[setting] += members
    found = {}
    titles = _titles([setting for setting in settings if (setting, base) in groups])
    for setting, title in titles.items():
        first = groups[setting, base][0].cell
        kept: dict[str, list[Record]] = defaultdict(list)
        for record in settings[setting]:
            method = record.cell.method
            same = (method.name, method.version, canonical(record.cell.other_options)) == (
                first.method.name,
                first.method.version,
                canonical(first.other_options),
            )
            if (
                same
                and option in method.options
                and _others(method.options, option) == _others(first.method.options, option)
            ):
                kept[canonical(method.options[option])].append(record)
        points = [(members[0].cell.method.options[option], entry(members)) for members in kept.values()]
        if len(points) > 1:
            found[title] = sorted(points, key=lambda point: _rank(point[0]))
    return found


def sweeps(
    records: Sequence[Record], options: Iterable[str], reference: str = "", layout: Layout | None = None
) -> dict[str, dict[str, Points]]:
    """Return the sweep of every option that has several values."""
    found = {option: sweep(records, option, reference, layout) for option in options}
    return {option: lines for option, lines in found.items() if lines}


def draw(swept: dict[str, dict[str, Points]]) -> Any:
    """Return a matplotlib figure with a panel for each option."""
    drawn, axes = figure(len(swept), width=3.6, height=3.2)
    for panel, (option, lines) in zip(axes, swept.items(), strict=True):
        values = sorted(
            {canonical(value): value for points in lines.values() for value, _ in points}.values(), key=_rank
        )
        numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        for number, (title, points) in enumerate(lines.items()):
            places = [value if numeric else values.index(value) for value, _ in points]
            means = [100 * runs.mean for _, runs in points]
            intervals = [runs.interval or (runs.mean, runs.mean) for _, runs in points]
            below = [max(0.0, mean - 100 * low) for mean, (low, _) in zip(means, intervals, strict=True)]
            above = [max(0.0, 100 * high - mean) for mean, (_, high) in zip(means, intervals, strict=True)]
            colour = COLOURS[number % len(COLOURS)]
            panel.errorbar(places, means, [below, above], marker="o", capsize=3, color=colour, label=title or None)
        if not numeric:
            panel.set_xticks(range(len(values)), [notes.value_text(value) for value in values])
        panel.set_xlabel(option.replace("_", " "))
        panel.grid(alpha=0.25)
        if any(lines):
            panel.legend(fontsize=7, framealpha=0.85)
    axes[0].set_ylabel("test accuracy, %")
    return drawn


def _others(options: dict[str, Any], option: str) -> str:
    return canonical({name: value for name, value in options.items() if name != option})


def _rank(value: Any) -> tuple[bool, float, str]:
    """Sort numbers by size, then everything else as text."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (not number, float(value) if number else 0.0, str(value))


def _titles(settings: Sequence[Setting]) -> dict[Setting, str]:
    """Name settings by what of them differs."""
    tables = [dict(zip(SETTING, setting, strict=False)) for setting in settings]
    return {
        setting: ", ".join(f"{name} {value}" if name == "IPC" else str(value) for name, value in own.items())
        for setting, own in zip(settings, notes.distinct(tables), strict=True)
    }
