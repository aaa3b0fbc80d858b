"""The plan of a run: its cells, steps, data and weights, as a value that prints what `ddbench plan` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ddbench.experiment import jobs
from ddbench.experiment.dry_run import DONE, DryRun, Line, dry_run
from ddbench.experiment.jobs import Expansion, Job
from ddbench.experiment.study import Study
from ddbench.plugin.weights import Weights
from ddbench.runtime.cards import ARITHMETIC, BANDWIDTH, Card
from ddbench.runtime.context import Context
from ddbench.runtime.estimates import Estimate
from ddbench.runtime.progress import UNKNOWN, size
from ddbench.runtime.progress import duration as words
from ddbench.runtime.store import NotMade


@dataclass(frozen=True)
class Plan:
    """What a run would do; ``print`` shows what ``ddbench plan`` prints.

    Attributes:
        cells: what is to be recorded, what comes to the same, and cells whose data cannot be read.
        run: steps with their state and estimated cost, and the published weights that they read.
        registry: whose records count as done.
        card: that the estimates are for; None for those of this machine.
    """

    cells: Expansion
    run: DryRun
    registry: Path
    card: Card | None = None

    @property
    def states(self) -> list[str]:
        """The state of every cell: ``recorded``, how many of its networks are, or ``to do``."""
        return [_state(job, self.registry) for job in self.cells.jobs]

    @property
    def missing(self) -> list[Weights]:
        """Published weights that are not on this machine."""
        return [model for model in self.run.weights if not model.here]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data; what ``ddbench plan --json`` prints. Seconds and bytes, None is unknown."""
        cells = zip(self.cells.jobs, self.states, strict=True)
        return {
            "cells": [{"title": job.title, "key": job.key, "state": state} for job, state in cells],
            "same": [list(names) for names in self.cells.same],
            "failed": [failure.to_dict() for failure in self.cells.failures],
            "steps": [asdict(line) for line in self.run.lines],
            "weights": [asdict(model) for model in self.run.weights],
        }

    def sections(self) -> dict[str, list[str]]:
        """Return the lines of the plan by their heading; what is empty is left out."""
        listed = {
            "cells": list(self._cells()),
            "steps": list(_steps(self.run, self.card)),
            "card": list(_card(self.card, self.run.left)),
            "data": list(_data(self.cells)),
            "weights": list(_weights(self.run.weights)),
        }
        return {heading: lines for heading, lines in listed.items() if lines}

    def __repr__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in sorted(Counter(self.states).items()))
        left = total(self.run.left, self.card)
        return f"<Plan: {_count(len(self.cells.jobs), 'cell')}{f' ({states})' * bool(states)}; {left}>"

    def __str__(self) -> str:
        return "\n\n".join("\n".join([heading, *lines]) for heading, lines in self.sections().items())

    def _cells(self) -> Iterator[str]:
        if self.cells.failures and not self.cells.jobs:
            yield "  unknown until the data are available"
            return
        states = self.states
        width = max(map(len, states), default=0)
        for number, (job, state) in enumerate(zip(self.cells.jobs, states, strict=True), 1):
            yield f"{number:4}  {state:{width}}  {job.title}"
        for name, other in self.cells.same:
            yield f"      {name} is the same cell as {other}"
        counted = ", ".join(f"{count} {state}" for state, count in sorted(Counter(states).items()))
        yield _count(len(states), "cell") + f": {counted}" * bool(counted)


def plan(study: Study, base: Context, registry: Path, card: Card | None = None) -> Plan:
    """Return what running a study would do; nothing is run.

    Args:
        study: as read.
        base: with the plugins of the study, machine and store; offline, so that nothing is fetched.
        registry: whose records count as done.
        card: that estimates are to be for, in place of this machine.

    Raises:
        UsageError, PluginError: what would stop a run before it has done anything.
    """
    cells = jobs.expand(study, replace(base, dry_run=True))
    return Plan(cells, dry_run(cells.jobs, cells.failures, card), registry, card)


def _state(job: Job, registry: Path) -> str:
    have, wanted = job.recorded(registry), job.measurement.repeats
    return "recorded" if have >= wanted else f"{have} of {wanted} networks" if have else "to do"


def _steps(run: DryRun, card: Card | None) -> Iterator[str]:
    """Yield every step with what it will cost, and the sums of what is known."""
    if not run.lines:
        return
    rows = [("state", "step", "time", "memory", "disk", "of", "why")]
    for line in _together(run.lines):
        name = line.name + (f" ×{line.count}" if line.count > 1 else "")
        costs = ("", "", "") if line.state == DONE else _costs(line.estimate)
        rows.append((line.state, name, *costs, line.of, line.why))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        padded = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        yield "  " + "  ".join([*padded, row[-1]]).rstrip()
    yield "  " + total(run.left, card)


def _card(card: Card | None, left: Sequence[Line]) -> Iterator[str]:
    """Yield what the estimates are for, and whether each step fits."""
    if card is None:
        return
    yield f"  {card.name}: {card.flops / 1e12:g} TFLOP/s in bf16, {card.bandwidth / 1e9:g} GB/s, {size(card.memory)}"
    yield f"  ({card.source}); assumed: {ARITHMETIC:.0%} of the former, {BANDWIDTH:.0%} of the latter; not measured"
    for line in _together(left):
        if line.estimate.advice:
            yield f"  {line.name} of {line.of} {line.estimate.advice}"


def _together(lines: Sequence[Line]) -> list[Line]:
    """Return neighbours that differ in nothing but which step they are (the experts of a method, students) as one."""
    merged: list[Line] = []
    for line in lines:
        shown = replace(line, key="", count=1, why=line.why if line.state != DONE else "finished")
        if merged and replace(merged[-1], count=1, why=shown.why, key="") == shown and merged[-1].state == line.state:
            merged[-1] = replace(shown, count=merged[-1].count + line.count)
        else:
            merged.append(line)
    return merged


def _costs(estimate: Estimate) -> tuple[str, str, str]:
    return duration(estimate.seconds), size(estimate.memory), size(estimate.disk)


def total(left: Sequence[Line], card: Card | None = None) -> str:
    """Return the sums over what is left, and of how many steps the time is unknown."""
    if not left:
        return "nothing is left to do"
    count = sum(line.count for line in left)
    seconds = [line.estimate.seconds * line.count for line in left if line.estimate.seconds is not None]
    unknown = sum(line.count for line in left if line.estimate.seconds is None)
    peak = max((line.estimate.memory for line in left if line.estimate.memory is not None), default=None)
    disk = [line.estimate.disk * line.count for line in left if line.estimate.disk is not None]
    known = f"{duration(sum(seconds))}, {size(peak)} of memory, {size(sum(disk))} on disk" if seconds else ""
    if not known:
        why = "their plugins count nothing" if card else "no comparable step has finished on this machine"
        return f"{count} to do; time unknown: {why}"
    return f"{count} to do: {known}" + (f", and {unknown} of unknown time" if unknown else "")


def _data(cells: Expansion) -> Iterator[str]:
    there = {job.planned.method.ctx.dataset.name: job.planned.method.ctx.dataset for job in cells.jobs}
    for name, data in there.items():
        images = f"{len(data.train):,} training and {len(data.test):,} test images"
        yield f"  here     {name}: {images} at {data.image_size}×{data.image_size}"
    for failure in cells.failures:
        name = failure.title.rpartition(" on ")[2]
        unread = isinstance(failure.error, NotMade)
        state, when = ("unread ", "it has been looked at") if unread else ("missing", "it is there")
        yield f"  {state}  {name}: see below; its cells and steps are unknown until {when}"


def _weights(weights: Sequence[Weights]) -> Iterator[str]:
    for model in weights:
        revision = f" at {model.revision}" if model.revision else ""
        yield f"  {'here   ' if model.here else 'missing'}  {model.source}{revision}, {size(model.bytes)}"
        if not model.here:
            yield f"           → {model.command}"


def duration(seconds: float | None) -> str:
    """Write seconds for people; starting up takes longer than the shortest steps."""
    return UNKNOWN if seconds is None else "under 5 s" if seconds < 2 else f"~{words(seconds)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
