"""Curves: test accuracy of records over epochs, a line per record and a thin one per network; loops' own metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddbench.errors import UsageError
from ddbench.escaping import figure as figure_text
from ddbench.figures.base import BESIDE, COLOURS, WIDTH, figure, wrapped
from ddbench.results.labels import label as named
from ddbench.results.labels import value_text
from ddbench.results.schema import Record
from ddbench.runtime import metrics
from ddbench.tables import notes

#: Width of accuracy over epochs, in inches.
WIDE = 6.4


def draw(records: Sequence[Record]) -> Any:
    """Return a matplotlib figure of the mean over networks, with every network thin behind it.

    Raises:
        UsageError: no record was tested more than once in training.
    """
    curved = [record for record in records if any(len(curve) > 1 for curve in record.result.curves)]
    if not curved:
        raise UsageError(
            "These records hold no training curves: their networks were tested once, at the end.",
            hint="`ddbench show evaluator/NAME` says whether an evaluator can test more often.",
        )
    drawn, (axes,) = figure(width=WIDE)
    for number, (record, label) in enumerate(zip(curved, labels(curved), strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        for curve in record.result.curves:
            epochs, values = [epoch for epoch, _ in curve], [100 * value for _, value in curve]
            axes.plot(epochs, values, color=colour, alpha=0.3, linewidth=0.8)
        shown = wrapped(label, WIDE - BESIDE, 8)
        axes.plot(*mean_curve(record), color=colour, linewidth=2, label=shown, linestyle=_dash(number))
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.85)
    names = {str(record.cell.dataset["name"]) for record in curved}
    if len(names) == 1:
        axes.set_title(figure_text(names.pop()), fontsize=11)
    return drawn


def draw_metrics(folders: Sequence[Path]) -> Any:
    """Return a matplotlib figure of what loops reported: a panel per figure (``loss``, …), a line per folder and task.

    Raises:
        UsageError: a folder without metrics.
    """
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for folder in folders:
        if not (lines := metrics.read(folder)):
            raise UsageError(
                f"{folder} holds no {metrics.FILE}.",
                hint="Name folders of distilled sets whose method has a loop, or of steps in the store; no records.",
            )
        for line in lines:
            label = f"{folder.name}, {line['task']}" if len(folders) > 1 else str(line["task"])
            for name in line.keys() - {"task", "step", "total", "seconds"}:
                panels.setdefault(name, {}).setdefault(label, []).append((line["step"], line[name]))
    drawn, axes = figure(len(panels))
    for place, name in zip(axes, sorted(panels), strict=True):
        for number, (label, points) in enumerate(panels[name].items()):
            colour = COLOURS[number % len(COLOURS)]
            shown = wrapped(label, WIDTH - BESIDE, 8)
            place.plot(*zip(*points, strict=True), color=colour, linestyle=_dash(number), label=shown)
        place.set_title(figure_text(name), fontsize=11)
        place.set_xlabel("step")
        place.grid(alpha=0.25)
        place.legend(fontsize=8, framealpha=0.85)
    return drawn


def mean_curve(record: Record) -> tuple[list[int], list[float]]:
    """Return the epochs at which every network was tested, and the mean accuracy there in percent."""
    curves = [dict(curve) for curve in record.result.curves if curve]
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    return epochs, [100 * float(np.mean([curve[epoch] for curve in curves])) for epoch in epochs]


def labels(records: Sequence[Record]) -> list[str]:
    """Name records by method, and by whatever else differs among them."""
    details = notes.distinct(
        [
            {
                "IPC": record.budget,
                "evaluator": named(record.cell.evaluator.name, record.cell.evaluator.explicit),
                "network": record.cell.network,
                "seed": record.cell.seed,
                "data set": record.cell.dataset["name"],
            }
            for record in records
        ]
    )
    names = [named(record.cell.method.name, record.cell.method.explicit) for record in records]
    return [
        ", ".join([name, *(f"{key} {value_text(value)}" for key, value in detail.items())])
        for name, detail in zip(names, details, strict=True)
    ]


def _dash(number: int) -> str:
    return ("-", "--", ":", "-.")[number // len(COLOURS) % 4]
