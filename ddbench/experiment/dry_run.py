"""What a run would do: which steps are there, what the others will cost, and what is missing. Nothing is run.

Steps declare what they depend on, so that their keys are known, and whether they are there, before any is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ddbench.errors import DataError, ModelError, TeacherError
from ddbench.experiment import dependencies
from ddbench.experiment.cells import Measurement, Planned
from ddbench.experiment.jobs import Failure, Job
from ddbench.experiment.pipeline import STUDENT, artifact, distil_effort, finished, student_effort
from ddbench.keys import digest
from ddbench.plugin.contracts import DistilledSet, Protocol
from ddbench.plugin.manager import plugin_errors
from ddbench.plugin.weights import Weights
from ddbench.runtime.cards import Card
from ddbench.runtime.context import Context
from ddbench.runtime.estimates import Effort, Estimate, History
from ddbench.runtime.steps import AnyCall, StepCall, at_work, steps_of, walk
from ddbench.runtime.store import Done
from ddbench.sets.made import Distilled

Result = TypeVar("Result")

DONE, RESUMABLE, TO_DO = "done", "resumable", "to do"
DISTILLED = "distilled"


@dataclass(frozen=True)
class Line:
    """A step of a run.

    Attributes:
        state: ``done``, ``resumable`` or ``to do``.
        name: of the step.
        of: whose it is.
        why: of the state.
        estimate: of what is left to do.
        key: of the step, where it is known by now.
        count: how many such steps there are.
    """

    state: str
    name: str
    of: str
    why: str
    estimate: Estimate = field(default_factory=Estimate)
    key: str = ""
    count: int = 1


@dataclass
class DryRun:
    """Steps in the order of a run, and the published models that it reads."""

    lines: list[Line] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)

    @property
    def left(self) -> list[Line]:
        """What is not done."""
        return [line for line in self.lines if line.state != DONE]

    def add(self, lines: Sequence[Line], weights: Sequence[Weights]) -> None:
        """Add steps and models; those that are there already stand once."""
        for line in lines:
            same = next((number for number, other in enumerate(self.lines) if _same(line, other)), None)
            if same is None:
                self.lines.append(line)
            elif not line.key:
                self.lines[same] = replace(self.lines[same], count=self.lines[same].count + line.count)
        known = {(model.source, model.revision) for model in self.weights}
        self.weights += [model for model in weights if (model.source, model.revision) not in known]


def _same(line: Line, other: Line) -> bool:
    """Whether two lines are of one step; without keys, whether they differ in nothing."""
    if line.key or other.key:
        return line.key == other.key
    return replace(line, count=1) == replace(other, count=1)


def dry_run(jobs: Sequence[Job], failures: Sequence[Failure] = (), card: Card | None = None) -> DryRun:
    """Return what running these jobs would do.

    Args:
        jobs: expanded for a dry run.
        failures: cells whose data cannot be read; of them, only the models are known.
        card: estimate for it, from what plugins count, instead of from finished steps.

    Raises:
        UsageError, PluginError: what would stop a run before it has done anything.
    """
    run = DryRun()
    known: dict[int, tuple[Distilled | None, str]] = {}
    for job in jobs:
        planned = job.planned
        history = History(planned.method.ctx.store, planned.method.ctx.machine, card)
        if id(planned) not in known:
            lines, weights, made = _set(planned, history)
            run.add(lines, weights)
            known[id(planned)] = made, next((line.why for line in lines if line.state != DONE), "")
        run.add(*_measured(planned, job.measurement, *known[id(planned)], history))
    for failure in failures:
        run.add([], list(_models(failure)))
    return run


@dataclass(frozen=True)
class Needed:
    """A step that a job needs before it trains a network.

    Attributes:
        path: where it is or will be.
        distils: whether it belongs to the distilled set rather than to the evaluator.
        call: of the step; None of the set.
    """

    path: Path
    distils: bool
    call: StepCall | None = None


def steps(job: Job) -> list[Needed]:
    """Return the steps that a job needs, and its set; those of which no key is known yet are left out."""
    bound = job.planned.method
    ctx, needed = bound.ctx, []
    for call, distils in calls_of(job):
        key = None if isinstance(call, AnyCall) else _tried(lambda call=call: call.key)[0]  # type: ignore[misc]
        if key:
            needed.append(Needed(ctx.store.path(call.name, key), distils, call))
    if inputs := _tried(lambda: artifact(bound))[0]:
        needed.append(Needed(ctx.store.path(DISTILLED, digest(inputs)), True))
    return needed


def calls_of(job: Job) -> Iterator[tuple[StepCall, bool]]:
    """Yield the calls of steps that a job makes before it trains a network, and whether each belongs to its set."""
    bound, measured = job.planned.method, job.measurement.evaluator
    with plugin_errors(bound.entry):
        yield from [(call, True) for call in walk(steps_of(bound.plugin, bound.ctx))]
    with plugin_errors(measured.entry):
        needed = steps_of(measured.plugin, measured.ctx, _black(bound.ctx), 0)
        yield from [(call, False) for call in walk(needed)]


def build_models(jobs: Sequence[Job]) -> Iterator[Done]:
    """Make the trained models that jobs need, each with what it needs itself, and yield each once."""
    made = set()
    for job in jobs:
        for call, _ in calls_of(job):
            if call.step.model and not isinstance(call, AnyCall) and call.key not in made:
                made.add(call.key)
                yield call.done()


def _set(planned: Planned, history: History) -> tuple[list[Line], list[Weights], Distilled | None]:
    """Return the steps of a distillation, its models, and the set if it is there."""
    bound = planned.method
    method, ctx, entry = bound
    of = f"{entry.name} on {ctx.dataset.name}"
    with plugin_errors(entry):
        weights = list(method.weights(ctx))
        calls = steps_of(method, ctx)
    lacking = _lacking(weights)
    inputs, reason = _tried(lambda: artifact(bound))
    made = finished(bound, inputs) if inputs is not None else None
    lines = [] if made else _lines(calls, of, lacking, history)
    inside = [] if made else _inside(calls, of, DISTILLED, history)
    waits = lacking or next((f"after {line.name}" for line in lines if line.state != DONE), "") or reason
    effort = None if made else distil_effort(bound)
    own = _line(ctx, DISTILLED, inputs, f"{of}, IPC {ctx.ipc or 'full'}, seed {ctx.base_seed}", waits, effort, history)
    return [*lines, *inside, own], weights, made


def _measured(
    planned: Planned, measurement: Measurement, made: Distilled | None, why: str, history: History
) -> tuple[list[Line], list[Weights]]:
    """Return the steps of an evaluation and its models."""
    evaluator, ctx, entry = measurement.evaluator
    of = f"{entry.name} on {ctx.network}"
    with plugin_errors(entry):
        weights = list(evaluator.weights(ctx))
        content = made.content if made else _black(planned.method.ctx)
        calls = [call for repeat in range(measurement.repeats) for call in steps_of(evaluator, ctx, content, repeat)]
    lacking = _lacking(weights)
    lines, inside = _lines(calls, of, lacking, history), _inside(calls, of, STUDENT, history)

    def ask() -> Protocol:
        with plugin_errors(entry):
            return evaluator.protocol(at_work(measurement.evaluator, content, 0), content)

    waits = next((f"after {line.name}" for line in lines if line.state != DONE), lacking)
    protocol, reason = (None, waits) if waits else _tried(ask)
    effort = student_effort(entry.spec.name, protocol, content, ctx.dataset) if protocol else None
    if made is None or protocol is None:
        waits = reason or f"after {DISTILLED}"
        student = _line(ctx, STUDENT, None, of, waits, effort, history)
        return [*lines, *inside, replace(student, count=measurement.repeats)], weights
    students = []
    for repeat in range(measurement.repeats):
        inputs = dependencies.student(*measurement.evaluator, made.content, made.digest, protocol, repeat)
        students.append(_line(ctx, STUDENT, ctx.depends(inputs), of, "", effort, history))
    left = any(line.state != DONE for line in students)
    return [*lines, *(inside if left else []), *students], weights


def _lacking(weights: Iterable[Weights]) -> str:
    return next((f"needs {model.source}, which is not here" for model in weights if not model.here), "")


def _lines(calls: Iterable[StepCall], of: str, lacking: str, history: History) -> list[Line]:
    """Return every step that is asked for, after those that it needs, once."""
    lines: dict[str, Line] = {}
    known = (call for call in walk(calls) if call.step.data and not isinstance(call, AnyCall))
    for call in known:
        inputs, reason = _tried(lambda call=call: call.inputs)  # type: ignore[misc]
        waits = next((f"after {need.name}" for need in call.needs if need.step.data and _unmade(need)), "")
        line = _line(call.ctx, call.name, inputs, of, waits or (reason and (lacking or reason)), call.effort, history)
        if inputs and call.shards and line.state != DONE:
            line = _in_shards(line, call)
        lines.setdefault(line.key or f"{call.name} {call.arguments}", line)
    return list(lines.values())


def _in_shards(line: Line, call: StepCall) -> Line:
    """Return the line of a step that is made in shards, with how many of them are there."""
    there, count = sum(shard.path.exists() for shard in call.shards), len(call.shards)
    if not there:
        return replace(line, why=f"{line.why}; in {count} shards" if count > 1 else line.why)
    left = line.estimate.seconds and line.estimate.seconds * (count - there) / count
    estimate = replace(line.estimate, seconds=left)
    return replace(line, state=RESUMABLE, why=f"{there} of {count} shards are there", estimate=estimate)


def _inside(calls: Iterable[StepCall], of: str, name: str, history: History) -> list[Line]:
    """Return the steps, once each, that are asked for only while another is being made."""
    inside = {call.key: call for call in calls if isinstance(call, AnyCall)}.values()
    return [_line(call.ctx, call.name, None, of, f"while {name} is being made", None, history) for call in inside]


def _unmade(call: StepCall) -> bool:
    done, _ = _tried(call.found)
    return done is None and not isinstance(call, AnyCall)


def _line(
    ctx: Context,
    name: str,
    inputs: Mapping[str, Any] | None,
    of: str,
    why: str,
    effort: Effort | None,
    history: History,
) -> Line:
    """Return the state of a step by what it depends on; None where that is not known yet."""
    why = why or "not there yet"
    if inputs is None:
        return Line(TO_DO, name, of, why, history.estimate(name, effort))
    key = digest(inputs)
    if ctx.store.get(name, inputs):
        return Line(DONE, name, of, f"finished ({key[:8]})", key=key)
    estimate = history.estimate(name, effort, inputs)
    if not ctx.store.started(name, inputs):
        return Line(TO_DO, name, of, why, estimate, key)
    spent = ctx.store.spent(name, inputs)
    left = None if estimate.seconds is None else max(0.0, estimate.seconds - spent)
    why = f"stopped after {spent:.0f} s of work; resumes from there"
    return Line(RESUMABLE, name, of, why, replace(estimate, seconds=left), key)


def _tried(work: Callable[[], Result]) -> tuple[Result | None, str]:
    """Return what ``work`` returns, or None and why it cannot, where a model or a file is missing."""
    try:
        return work(), ""
    except (ModelError, TeacherError, DataError) as error:
        return None, str(error)


def _black(ctx: Context) -> DistilledSet:
    """Return what is known of a set before it is there: how many images of which classes."""
    data = ctx.dataset
    labels = data.train.labels if ctx.ipc is None else np.repeat(np.arange(data.num_classes), ctx.ipc)
    shape = (len(labels), data.image_size, data.image_size, data.channels)
    return DistilledSet(np.broadcast_to(np.uint8(0), shape), labels, whole=ctx.ipc is None)


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
