"""What a run would do: which steps are there, what the others will cost, and what is missing. Nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from ddbench.errors import DataError, ModelError, TeacherError
from ddbench.experiment.jobs import Failure, Job
from ddbench.experiment.pipeline import distil, student_effort, train_student
from ddbench.experiment.planning import Measurement, Planned
from ddbench.experiment.rehearsal import DONE, RESUMABLE, TO_DO, NotYet, Rehearsal, Seen
from ddbench.plugin.contracts import DistilledSet, Protocol
from ddbench.plugin.manager import plugin_errors
from ddbench.plugin.stages import Effort, Stage, Weights
from ddbench.runtime.context import Bound, Context
from ddbench.runtime.estimates import Estimate, History
from ddbench.sets.made import Distilled

Result = TypeVar("Result")

DISTILLED, STUDENT = "distilled", "student"


@dataclass(frozen=True)
class Line:
    """A stage of a run.

    Attributes:
        state: ``done``, ``resumable`` or ``to do``.
        name: of the step.
        of: whose it is.
        why: of the state.
        estimate: of what is left to do.
        key: of the step, where it is known by now.
        count: how many such stages there are.
        effort: what its time grows with, where that is known.
    """

    state: str
    name: str
    of: str
    why: str
    estimate: Estimate = field(default_factory=Estimate)
    key: str = ""
    count: int = 1
    effort: Effort | None = None


@dataclass
class Outlook:
    """Stages in the order of a run, and the published models that it reads."""

    lines: list[Line] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)

    @property
    def left(self) -> list[Line]:
        """What is not done."""
        return [line for line in self.lines if line.state != DONE]

    def add(self, lines: Sequence[Line], weights: Sequence[Weights]) -> None:
        """Add stages and models; those that are there already stand once."""
        for line in lines:
            same = next((n for n, other in enumerate(self.lines) if _same(line, other)), None)
            if same is None:
                self.lines.append(line)
            elif not (line.key or self.lines[same].key):
                self.lines[same] = replace(self.lines[same], count=self.lines[same].count + line.count)
            elif not self.lines[same].key:
                self.lines[same] = line
        known = {(each.source, each.revision) for each in self.weights}
        self.weights += [each for each in weights if (each.source, each.revision) not in known]


def _same(line: Line, other: Line) -> bool:
    """Whether two stages are one: by their keys, or as far as can be told a step that two plugins share."""
    if line.name != other.name:
        return False
    if line.key and other.key:
        return line.key == other.key
    if line.key or other.key:
        return line.of != other.of and line.effort is not None and line.effort == other.effort
    return replace(line, count=1) == replace(other, count=1)


def outlook(jobs: Sequence[Job], failures: Sequence[Failure] = ()) -> Outlook:
    """Return what running these jobs would do.

    Args:
        jobs: expanded in rehearsal.
        failures: cells whose data cannot be read; of them, only the models are known.

    Raises:
        UsageError, PluginError: what would stop a run before it has done anything.
    """
    found = Outlook()
    known: dict[int, tuple[Distilled | None, str]] = {}
    for job in jobs:
        planned = job.planned
        history = History(planned.method.ctx.store, planned.method.ctx.machine)
        if id(planned) not in known:
            lines, weights, made = _set(planned, history)
            found.add(lines, weights)
            known[id(planned)] = made, next((line.why for line in lines if line.state != DONE), "")
        made, why = known[id(planned)]
        found.add(*_measured(planned, job.measurement, made, why, history))
    for failure in failures:
        found.add([], list(_models(failure)))
    return found


def _set(planned: Planned, history: History) -> tuple[list[Line], list[Weights], Distilled | None]:
    """Return the stages of a distillation, its models, and the set if it is there."""
    method, ctx, entry = planned.method
    assert isinstance(ctx, Rehearsal)
    ctx = replace(ctx, seen=[])
    with plugin_errors(entry):
        weights = list(method.weights(ctx))
    lacking = next((each.source for each in weights if not each.here), "")
    made, reason = _tried(partial(distil, Bound(method, ctx, entry)))
    stages: list[Stage] = []
    if made is None:
        with plugin_errors(entry):
            stages = list(method.stages(ctx))
    if made is None and not lacking and any(stage.name != DISTILLED for stage in stages):

        def rehearse() -> None:
            with plugin_errors(entry):
                method.distill(ctx)

        reason = _tried(rehearse)[1] or reason
    reason = f"needs {lacking}, which is not here" if lacking else reason
    own = [each for each in ctx.seen if each.name == DISTILLED]
    inner = [each for each in ctx.seen if each.name != DISTILLED]
    efforts = {stage.name: stage.effort for stage in stages}
    of = f"{entry.name} on {ctx.dataset.name}"
    lines = [_seen(each, of, efforts.get(each.name), history) for each in inner]
    names = {each.name for each in inner}
    if made is None:
        waits = reason or next((f"after {line.name}" for line in lines if line.state != DONE), "")
        for stage in stages:
            if stage.name not in (*names, DISTILLED):
                lines.append(_declared(stage, of, waits or "not there yet", history))
    of = f"{of}, IPC {ctx.ipc or 'full'}, seed {ctx.base_seed}"
    if own:
        lines += [_seen(each, of, efforts.get(DISTILLED), history) for each in own]
    else:
        lines.append(_declared(Stage(DISTILLED, efforts.get(DISTILLED)), of, reason, history))
    return lines, weights, made


def _measured(
    planned: Planned, measurement: Measurement, made: Distilled | None, why: str, history: History
) -> tuple[list[Line], list[Weights]]:
    """Return the stages of an evaluation and its models."""
    evaluator, ctx, entry = measurement.evaluator
    assert isinstance(ctx, Rehearsal)
    ctx = replace(ctx, seen=[])
    with plugin_errors(entry):
        weights = list(evaluator.weights(ctx))
    lacking = next((each.source for each in weights if not each.here), "")
    content = made.content if made else _black(planned.method.ctx)

    def ask() -> Protocol:
        with plugin_errors(entry):
            return evaluator.protocol(ctx, content)

    protocol, reason = (None, f"needs {lacking}, which is not here") if lacking else _tried(ask)
    if made is not None and protocol is not None:
        for repeat in range(measurement.repeats):
            _tried(partial(train_student, Bound(evaluator, ctx, entry), made, protocol, repeat))
    of = f"{entry.name} on {ctx.network}"
    lines = [_seen(each, of, None, history) for each in ctx.seen]
    students = sum(each.name == STUDENT for each in ctx.seen)
    effort = student_effort(entry.spec.name, protocol, content, ctx.dataset) if protocol else None
    waits = reason or (f"after {DISTILLED}" if made is None else next((f"after {line.name}" for line in lines), ""))
    rest = replace(_declared(Stage(STUDENT, effort), of, waits, history), count=measurement.repeats - students)
    return [*lines, *([rest] if rest.count else [])], weights


def _tried(work: Callable[[], Result]) -> tuple[Result | None, str]:
    """Return what ``work`` returns, or None and why it cannot go on, where something besides time is missing."""
    try:
        return work(), ""
    except NotYet:
        return None, ""
    except (ModelError, TeacherError, DataError) as error:
        return None, str(error)


def _black(ctx: Context) -> DistilledSet:
    """Return what is known of a set before it is there: how many images of which classes."""
    data = ctx.dataset
    labels = data.train.labels if ctx.ipc is None else np.repeat(np.arange(data.num_classes), ctx.ipc)
    shape = (len(labels), data.image_size, data.image_size, data.channels)
    return DistilledSet(np.broadcast_to(np.uint8(0), shape), labels, whole=ctx.ipc is None)


def _seen(each: Seen, of: str, effort: Effort | None, history: History) -> Line:
    if each.state == DONE:
        return Line(DONE, each.name, of, f"finished ({each.key[:8]})", key=each.key, effort=each.effort)
    effort = each.effort or effort
    estimate = history.estimate(each.name, effort, each.inputs)
    why = "not there yet"
    if each.state == RESUMABLE:
        why = f"stopped after {each.spent:.0f} s of work; goes on from there"
        left = None if estimate.seconds is None else max(0.0, estimate.seconds - each.spent)
        estimate = replace(estimate, seconds=left)
    return Line(each.state, each.name, of, why, estimate, each.key, effort=effort)


def _declared(stage: Stage, of: str, why: str, history: History) -> Line:
    estimate = history.estimate(stage.name, stage.effort)
    return Line(TO_DO, stage.name, of, why or "not there yet", estimate, effort=stage.effort)


def _models(failure: Failure) -> Iterator[Weights]:
    """Yield the models of cells whose data are not there; the name of the data decides most options."""
    if failure.block is None or failure.ctx is None:
        return
    block, facts = failure.block, {"dataset": failure.dataset, "ipc": failure.block.ipc[0]}
    for kind, names in (("method", block.method), ("evaluator", block.eval)):
        for name in names:
            plugin, _, entry = failure.ctx.use(kind, name)
            with plugin_errors(entry):
                yield from plugin.weights(failure.ctx.with_options_of(plugin, entry, **facts))
