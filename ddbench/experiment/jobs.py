"""A study as jobs, one record each: expanded before anything runs, then run in turn, whatever fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ddbench.errors import DataError, RecordError, UsageError
from ddbench.experiment import setup
from ddbench.experiment.cells import Measurement, Planned, SameImages, resolve
from ddbench.experiment.pipeline import distil, load_dataset
from ddbench.experiment.study import Block, Study
from ddbench.files.writing import check_writable
from ddbench.keys import canonical, digest
from ddbench.plugin.manager import NO_NETWORK
from ddbench.plugin.options import Preset
from ddbench.results import labels
from ddbench.results.registry import RESULTS
from ddbench.results.schema import Cell, Record, budget, place, read, record_key
from ddbench.runtime.context import Context
from ddbench.runtime.progress import Reporter, numbered
from ddbench.runtime.store import NotMade
from ddbench.sets.made import Distilled

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """A record to make.

    Attributes:
        planned: the set to distil; jobs on the same set share the object.
        measurement: what to measure on it.
        cell, key: of the record.
        name: what the study calls it in tables, or "".
        dataset: as it was named.
    """

    planned: Planned
    measurement: Measurement
    cell: Cell
    key: str
    name: str
    dataset: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The keys of a study that mean this cell alone, as plain data."""
        _, method, entry = self.planned.method
        _, evaluation, evaluator = self.measurement.evaluator
        return {
            "method": [entry.name],
            "eval": [evaluator.name],
            "dataset": [self.dataset],
            "ipc": [method.ipc or evaluation.ipc],
            "network": [] if evaluation.network == NO_NETWORK else [evaluation.network],
            "seed": [method.base_seed],
            "evaluation-seed": evaluation.base_seed,
            "repeats": self.measurement.repeats,
            "preset": str(method.preset),
            "option": method.explicit,
        }

    @property
    def mark(self) -> str:
        """Digest of what is asked for, the same on every machine."""
        return digest(self.cell.model_dump(mode="json"))

    @property
    def label(self) -> str:
        """The method with its options, as tables show it."""
        cell = self.cell
        return labels.label(cell.method.name, {**cell.method.explicit, **labels.flat(cell.other_options)})

    @property
    def title(self) -> str:
        """The whole cell in words."""
        cell = self.cell
        named = f"{self.name}: " if self.name else ""
        evaluator = labels.label(cell.evaluator.name, cell.evaluator.explicit)
        where = f"{cell.dataset['name']}, IPC {budget(cell)}, seed {cell.seed}"
        return f"{named}{self.label} on {where}, {evaluator} on {cell.network}"

    def recorded(self, registry: Path) -> int:
        """Return how many networks the registry's record of this cell has; 0 where there is none."""
        path = registry / RESULTS / place(self.cell, self.key)
        try:
            return len(read(path).result.values) if path.exists() else 0
        except RecordError:
            return 0


@dataclass(frozen=True)
class Failure:
    """What could not be done, and why.

    Attributes:
        title: what, in words.
        error: why.
        block, ctx, dataset: where it is cells whose data cannot be read: which, and their options.
    """

    title: str
    error: Exception
    block: Block | None = None
    ctx: Context | None = None
    dataset: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as plain data: what, why, and what to do."""
        return {"title": self.title, "error": str(self.error), "hint": getattr(self.error, "hint", "")}


@dataclass
class Expansion:
    """What a study comes to.

    Attributes:
        jobs: what to run, in order.
        same: names of cells that come to the same as an earlier one, with the name of that one.
        failures: what cannot be run because its data cannot be read.
    """

    jobs: list[Job] = field(default_factory=list)
    same: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def expand(
    study: Study, base: Context, *, loaded: dict[str, Context | DataError] | None = None, build: bool = True
) -> Expansion:
    """Resolve every cell of a study; two that differ only in wording are one.

    Args:
        study: as read.
        base: with the plugins of the study, machine and store; preset and options are those of the blocks. In a dry
            run, data that are not decoded yet are failures.
        loaded: data sets that are in memory already; those that are loaded are added.
        build: whether to see that networks can be built, which imports torch.

    Raises:
        UsageError: a name, an option or a combination that does not exist; nothing has run by then.
        PluginError: a plugin is broken.
    """
    expansion = Expansion()
    loaded = {} if loaded is None else loaded
    jobs: dict[str, Job] = {}
    for where, block, name, ctx in _parts(study, base):
        for dataset in block.dataset:
            with_data = _load(ctx, dataset, loaded)
            if isinstance(with_data, DataError):
                title = f"{name or ', '.join(block.method)} on {dataset or setup.default_dataset(ctx.plugins)}"
                expansion.failures.append(Failure(title, with_data, block, ctx, dataset))
                continue
            try:
                planned = resolve(
                    with_data,
                    block.method,
                    block.eval,
                    budgets=block.ipc,
                    networks=block.network,
                    seeds=block.seed,
                    evaluation_seed=block.evaluation_seed,
                    repeats=block.repeats,
                    build=build,
                )
            except UsageError as error:
                raise _placed(error, where) from error
            several = len({one.method.entry.name for one in planned}) > 1
            for one, measurement in ((its, under) for its in planned for under in its.measurements):
                cell = one.cell(measurement)
                called = f"{name} ({cell.method.name})" if name and several else name
                job = Job(one, measurement, cell, record_key(cell, ctx.machine.numerics()), called, dataset)
                mark = _mark(cell)
                if first := jobs.get(mark):
                    more = max(first.measurement.repeats, measurement.repeats)
                    jobs[mark] = replace(first, measurement=replace(first.measurement, repeats=more))
                    if first.key != job.key:
                        expansion.same.append((job.name or job.label, first.name or first.label))
                else:
                    jobs[mark] = job
    expansion.jobs = list(jobs.values())
    expansion.same = list(dict.fromkeys(expansion.same))
    return expansion


def _parts(study: Study, base: Context) -> list[tuple[str, Block, str, Context]]:
    """Return every variant of every block with its place, name and context; all names exist."""
    parts = []
    for number, block in enumerate(study.blocks, 1):
        where = f"{study.title}, block {number}" if len(study.blocks) > 1 else study.title
        try:
            for kind, names in (("method", block.method), ("evaluator", block.eval), ("network", block.network)):
                for name in names:
                    base.plugins.get(kind, name)
            for name in filter(None, block.dataset):
                base.plugins.get("dataset", name)
            preset = Preset.parse(block.preset)
            for name, options in block.variants():
                scoped = setup.scoped(options, base.plugins).items()
                explicit = {scope: given for scope, given in scoped if scope.partition("/")[0] != "executor"}
                ctx = replace(base, preset=preset, explicit=explicit)
                parts.append((where, block, name, ctx))
        except UsageError as error:
            raise _placed(error, where) from error
    return parts


def _placed(error: UsageError, where: str) -> UsageError:
    """Return a mistake with the place in the study; a command has none."""
    return UsageError(f"{where}: {error}" if where else str(error), hint=error.hint)


def _load(ctx: Context, name: str, loaded: dict[str, Context | DataError]) -> Context | DataError:
    """Return the context with a data set, which is loaded once for all that set the same options for it."""
    explicit = {scope: values for scope, values in ctx.explicit.items() if scope.partition("/")[0] == "dataset"}
    mark = canonical([name, str(ctx.preset), explicit])
    if mark not in loaded:
        name = name or setup.default_dataset(ctx.plugins)
        try:
            loaded[mark] = replace(ctx, _dataset=load_dataset(ctx, name))
        except NotMade:
            loaded[mark] = NotMade(
                f"The images of {name} are here, but have not been looked at yet; a run begins with that.",
                hint=f"`ddbench data prepare {name}`, with the same --preset and -o data.…, does it ahead.",
            )
        except DataError as error:
            loaded[mark] = error
    known = loaded[mark]
    return known if isinstance(known, DataError) else replace(ctx, _dataset=known.dataset)


def _mark(cell: Cell) -> str:
    """What two cells share whose results are the same: everything but how it was written."""
    content: dict[str, Any] = cell.model_dump(mode="json", exclude={"preset"})
    del content["method"]["explicit"], content["evaluator"]["explicit"]
    return canonical(content)


def run(
    jobs: Sequence[Job], registry: Path, reporter: Reporter, *, force: bool = False, stop: bool = False
) -> Iterator[Record | Failure]:
    """Run jobs in turn and yield a record or a failure for each.

    Args:
        jobs: of an expansion.
        registry: folder whose ``results/`` receives the records.
        reporter: told which job begins.
        force: work again instead of reusing what is finished.
        stop: raise the first error.
    """
    check_writable(registry)
    current: Planned | None = None
    made: Distilled | Exception = RuntimeError("nothing to distil")
    seen = SameImages(reporter.warn)
    for mark, job in numbered(reporter, jobs, lambda job: job.title):
        if job.planned is not current:
            current, made = job.planned, _tried(partial(distil, job.planned.method, force=force), stop)
            if isinstance(made, Distilled):
                seen.look(made)
        result: Record | Exception
        if isinstance(made, Exception):
            result = made
        else:
            result = _tried(partial(job.measurement.carry_out, made, registry, force=force), stop)
        if isinstance(result, Exception):
            reporter.log(f"{mark} failed: {result}")
            yield Failure(job.title, result)
        else:
            reporter.log(f"{mark} accuracy {result.accuracy} %")
            yield result


def _tried(work: Callable[[], Result], stop: bool) -> Result | Exception:
    """Return what ``work`` returns, or the exception it raises."""
    try:
        return work()
    except Exception as error:  # whatever it is, the other cells go on
        if stop:
            raise
        return error
