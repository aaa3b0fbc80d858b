"""Sweeps: accuracy with its interval against one option of a method, the others unchanged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from ddbench.errors import UsageError
from ddbench.escaping import figure as figure_text
from ddbench.figures.base import BESIDE, COLOURS, figure, wrapped
from ddbench.keys import canonical
from ddbench.results import labels
from ddbench.results.schema import SNAPSHOTS, Cell, Record
from ddbench.tables import notes
from ddbench.tables.board import Entry
from ddbench.tables.leaderboard import Layout, entry, in_order
from ddbench.tables.variants import SETTING, Setting, grouped, reference_of, setting_of

Points = list[tuple[Any, Entry]]


def sweep(
    records: Iterable[Record], option: str, reference: str = "", layout: Layout | None = None
) -> dict[str, Points]:
    """Return, by setting in words, the values of an option in order with the runs of each.

    The reference variant (see :func:`ddbench.tables.variants.grid`) is one of the points, with its own value.
    """
    groups = grouped(records)
    base = reference_of(groups, layout or Layout(), reference)
    settings: dict[Setting, list[Record]] = defaultdict(list)
    for (setting, _), members in groups.items():
        settings[setting] += members
    lines = {}
    titles = _titles([setting for setting in settings if (setting, base) in groups])
    for setting, title in titles.items():
        first = groups[setting, base][0].cell
        own = _without(first, option)
        points = _points(
            (r for r in settings[setting] if option in r.cell.method.options and _without(r.cell, option) == own),
            option,
        )
        if len(points) > 1:
            lines[title] = points
    return lines


def sweeps(
    records: Sequence[Record], options: Iterable[str], reference: str = "", layout: Layout | None = None
) -> dict[str, dict[str, Points]]:
    """Return the sweep of every option that has several values; where no reference has it, all lines there are."""
    swept = {}
    for option in options:
        lines = sweep(records, option, reference, layout)
        if not lines:
            lines = {title: points for title, points in _lines(records, option)[0].items() if len(points) > 1}
        if lines:
            swept[option] = lines
    return swept


def against(records: Iterable[Record], option: str) -> tuple[dict[str, Points], dict[str, Entry]]:
    """Return the values of one option with the runs of each, by method; and the runs of methods without the option.

    Unlike in :func:`sweep` there is no reference: records that differ in nothing but the option make a line. The images
    that a method kept on its way (its snapshots) belong to the line of the run that kept them.

    Raises:
        UsageError: no method among the records has the option, or all have it with the same value.
    """
    lines, levels = _lines(records, option)
    if all(len(points) < 2 for points in lines.values()):
        raise UsageError(
            f"These records do not differ in {option!r} of a method.",
            hint="`ddbench show METHOD` lists the options of a method; give records with several values of one.",
        )
    return lines, levels


def _lines(records: Iterable[Record], option: str) -> tuple[dict[str, Points], dict[str, Entry]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in in_order(records):
        groups[canonical([setting_of(record), _without(record.cell, option, SNAPSHOTS)])].append(record)
    lines: dict[str, Points] = {}
    levels: dict[str, Entry] = {}
    for title, members in zip(_names(list(groups.values()), option), groups.values(), strict=True):
        method = members[0].cell.method
        if option not in method.options:
            levels[title] = entry(members)
            continue
        lines[title] = _points(members, option)
    return lines, levels


def draw(swept: dict[str, dict[str, Points]], levels: dict[str, Entry] | None = None, *, width: float = 3.6) -> Any:
    """Return a matplotlib figure with a panel for each option; levels are lines across, for what has no such option."""
    names = [[*lines, *(levels or {})] for lines in swept.values()]
    titles = {name: wrapped(name, width - BESIDE, 7) for some in names for name in some}
    most = max(sum(titles[name].count("\n") for name in some) for some in names)
    drawn, axes = figure(len(swept), width=width, height=3.2 + 0.17 * most)
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
            panel.errorbar(
                places, means, [below, above], marker="o", capsize=3, color=colour, label=titles[title] or None
            )
        for number, (title, runs) in enumerate((levels or {}).items(), start=len(lines)):
            colour = COLOURS[number % len(COLOURS)]
            panel.axhline(100 * runs.mean, color=colour, linestyle="--", label=titles[title])
            if runs.interval:
                panel.axhspan(*(100 * end for end in runs.interval), color=colour, alpha=0.12, linewidth=0)
        if not numeric:
            panel.set_xticks(range(len(values)), [figure_text(labels.value_text(value)) for value in values])
        panel.set_xlabel(figure_text(option.replace("_", " ")))
        panel.grid(alpha=0.25)
        if any((*lines, *(levels or {}))):
            panel.legend(fontsize=7, framealpha=0.85, loc="upper left", bbox_to_anchor=(0, -0.24), borderaxespad=0)
    axes[0].set_ylabel("test accuracy, %")
    return drawn


def _names(lines: Sequence[Sequence[Record]], option: str) -> list[str]:
    """Name lines by their method and what is shown of their settings; by more only where two have the same name."""
    tables = [_distinctions(members[0], option) for members in lines]
    names = [members[0].cell.method.name for members in lines]
    for level in range(len(tables[0]) if tables else 0):
        for name in {name for name in names if names.count(name) > 1} if level else {""}:
            same = [place for place, other in enumerate(names) if not level or other == name]
            for place, own in zip(same, notes.distinct([tables[place][level] for place in same]), strict=True):
                names[place] = _joined(names[place], own)
    return names


def _distinctions(record: Record, option: str) -> list[dict[str, Any]]:
    """Return what distinguishes a line: the shown settings, what was set, and at last everything that makes a line."""
    cell, places = record.cell, setting_of(record)
    shown = dict(zip(SETTING, places, strict=False))
    digests = dict(zip(("protocol", "fingerprint", "image size"), places[len(SETTING) :], strict=False))
    chosen = {name: shown.pop(name) for name in ("Preset", "Protocol")} | cell.method.explicit | cell.other_options
    last = {"version": cell.method.version, **cell.method.options, "eval": cell.evaluator.options, **digests}
    ignored = (option, SNAPSHOTS)
    return [shown, *({name: value for name, value in table.items() if name not in ignored} for table in (chosen, last))]


def _joined(name: str, own: dict[str, Any]) -> str:
    return ", ".join(
        [name, *(f"{key} {labels.value_text(value)}" for key, value in own.items() if value != notes.ABSENT)]
    )


def _without(cell: Cell, *names: str) -> list[Any]:
    """Return what makes a cell's set, but for its seed and the method's options of these names."""
    method = cell.method
    others = {name: value for name, value in method.options.items() if name not in names}
    return [method.name, method.version, others, cell.other_options]


def _points(records: Iterable[Record], option: str) -> Points:
    """Return the values of an option in order, with the runs of each."""
    values: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        values[canonical(record.cell.method.options[option])].append(record)
    points = [(members[0].cell.method.options[option], entry(members)) for members in values.values()]
    return sorted(points, key=lambda point: _rank(point[0]))


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
