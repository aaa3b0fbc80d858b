"""Figures that a loop reports, kept as JSON lines in the folder of the step that it runs in: ``metrics.jsonl``.

One line is ``{"task", "step", "total", "seconds", <figures>}``; ``seconds`` is the task's working time over all
sessions. Times differ from run to run, so nothing is ever keyed or compared by this file.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"
#: Lines kept of one task, whose length is known: enough for a plot, and no burden for a task of millions of steps.
LINES = 1000


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a step's folder, if its loops reported any; a line cut short by a crash is left out."""
    try:
        return _lines((folder / FILE).read_bytes())
    except FileNotFoundError:
        return []


def seconds_per_step(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean time of a step by task: from each line to the next, so that what came before the loop is out.

    A step is what the loop counts: an iteration, or an epoch of a training.
    """
    last: dict[str, dict[str, Any]] = {}
    spent: dict[str, tuple[float, int]] = {}
    for line in lines:
        before = last.get(line["task"])
        if before and line["step"] > before["step"]:  # otherwise another stretch of the same task begins
            seconds, steps = spent.get(line["task"], (0.0, 0))
            spent[line["task"]] = seconds + line["seconds"] - before["seconds"], steps + line["step"] - before["step"]
        last[line["task"]] = line
    return {task: float(f"{seconds / steps:.4g}") for task, (seconds, steps) in spent.items()}


class Journal:
    """The metrics of one step while it is built.

    A checkpoint knows how much of the file belongs to the work it holds (:attr:`size`), so a resumed step writes
    exactly the lines of an undisturbed one. What no checkpoint holds is done again, and written again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.size = 0
        self._begun = False

    def resume(self, size: int) -> None:
        """Keep the first ``size`` bytes of an earlier session; without effect once this one has written."""
        if not self._begun:
            self.size = size

    def lines(self) -> list[dict[str, Any]]:
        """Return what has been kept so far."""
        try:
            return _lines(self.path.read_bytes()[: self.size])
        except FileNotFoundError:
            return []

    def write(self, line: dict[str, Any]) -> None:
        """Append a line."""
        with self.path.open("ab") as file:
            if not self._begun:
                self._begun = True
                file.truncate(min(self.size, file.tell()))
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self.size = self.path.stat().st_size


class Task:
    """Writes the progress of one loop into a journal."""

    def __init__(self, journal: Journal, name: str, total: int | None) -> None:
        self.journal, self.name, self.total = journal, name, total
        self.start = time.perf_counter()
        self._place: int | None = None
        self._before: float | None = None

    def __call__(self, done: int, total: int | None, figures: Mapping[str, float]) -> None:
        """Write the figures that are finite, which is what JSON can hold."""
        self.total = total or self.total
        finite = {name: float(value) for name, value in figures.items() if math.isfinite(value)}
        if not finite:
            return
        if self._before is None:
            self._go_on()
        place = self._place_of(done, self.total)
        if place == self._place:
            return
        self._place = place
        seconds = round((self._before or 0.0) + time.perf_counter() - self.start, 3)
        line = {"task": self.name, "step": done, "total": self.total, "seconds": seconds}
        self.journal.write(line | finite | line)  # names of the line are its own

    def _go_on(self) -> None:
        """Take up the clock of an earlier session; only when there is something to write, as checkpoints load late."""
        earlier = [line for line in self.journal.lines() if line["task"] == self.name]
        self._before = float(earlier[-1]["seconds"]) if earlier else 0.0
        self._place = self._place_of(earlier[-1]["step"], earlier[-1]["total"]) if earlier else None

    @staticmethod
    def _place_of(done: int, total: int | None) -> int:
        return done * LINES // total if total and total > LINES else done


def _lines(content: bytes) -> list[dict[str, Any]]:
    whole = content.rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
