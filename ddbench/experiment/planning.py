"""Which cells a call means: everything is resolved before anything runs, so that a typo costs no hours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddbench.errors import UsageError
from ddbench.experiment.dependencies import cell, plugin_part
from ddbench.experiment.pipeline import check_network, distil, evaluate, prepare_evaluator, prepare_method
from ddbench.plugin.contracts import Budget
from ddbench.plugin.interfaces import Distiller, Evaluator
from ddbench.plugin.manager import Entry
from ddbench.results import labels
from ddbench.results.exchange import keep
from ddbench.results.schema import Cell, Record
from ddbench.runtime.context import Context
from ddbench.sets.made import Distilled


class Alike:
    """Tells of distilled sets that have the same images as one before, as soon as they are made."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._first: dict[str, str] = {}

    def look(self, made: Distilled) -> None:
        """Compare a set with those before it."""
        label = labels.label(made.plugin.name, made.plugin.explicit)
        title = f"{label}, IPC {Budget(made.ipc)}, seed {made.seed}"
        first = self._first.setdefault(made.digest, title)
        if first != title:
            self._warn(f"{title} has the same images as {first}: their networks are the same and count once.")


@dataclass(frozen=True)
class Measurement:
    """An evaluator with the network under test, its options and the number of networks to train."""

    evaluator: Evaluator
    ctx: Context
    entry: Entry
    repeats: int

    def carry_out(self, made: Distilled, registry: Path, *, force: bool = False) -> Record:
        """Measure a distilled set, write the record and return what the registry holds then."""
        record = evaluate(self.evaluator, self.ctx, self.entry, made, repeats=self.repeats, force=force)
        return keep(record, registry, self.ctx.reporter.warn)


@dataclass(frozen=True)
class Planned:
    """A set to distil, and what to measure on it: one record each."""

    method: Distiller
    ctx: Context
    entry: Entry
    measurements: tuple[Measurement, ...]

    def distil(self, *, force: bool = False) -> Distilled:
        """Distil, or reuse what is finished."""
        return distil(self.method, self.ctx, self.entry, force=force)

    def cell(self, measurement: Measurement) -> Cell:
        """Return the cell of a record that is still to be made."""
        method = plugin_part(self.ctx, self.entry)
        evaluator = plugin_part(measurement.ctx, measurement.entry)
        return cell(measurement.ctx, method, evaluator, ipc=self.ctx.ipc, seed=self.ctx.base_seed)


def plan(
    ctx: Context,
    methods: Sequence[str],
    evaluators: Sequence[str],
    *,
    budgets: Sequence[int],
    networks: Sequence[str],
    seeds: Sequence[int],
    evaluation_seed: int,
    repeats: int | None,
) -> list[Planned]:
    """Resolve every combination on the context's data set; methods that keep the whole training set stand once.

    Args:
        ctx: with a data set, options and preset.
        methods, evaluators: their names.
        budgets: images per class.
        networks: networks under test; the evaluator's own choice when empty.
        seeds: distillation seeds; 0 when empty.
        evaluation_seed: base of the students' seeds.
        repeats: networks trained per distilled set; the evaluator's default when None.

    What is left open (no evaluators, networks or seeds, no number of repeats) is what the method's preset says of its
    experiment; its networks and repeats are those of the evaluator that it names.

    Raises:
        UsageError: a name, an option, an IPC or a network that does not exist or does not fit the data.
    """
    prepared = {}
    for name in methods:
        for count in budgets:
            for seed in seeds or several(preset_says(ctx, name, count, "seed") or 0):
                method, mine, entry = prepare_method(ctx, name, count, seed)
                prepared[name, mine.ipc, mine.base_seed] = method, mine, entry
    found = []
    for method, mine, entry in prepared.values():
        theirs = {key: value for key, (value, _) in mine.resolved.experiment.items()}
        named = theirs.get("eval", "")
        if not (evaluators or named):
            raise UsageError(
                f"No evaluator is named, and the preset {ctx.preset} of {entry.name} has none for {ctx.dataset.name}.",
                hint="Name one with --eval; `ddbench list evaluators` lists them.",
            )
        measurements: dict[tuple[str, str], Measurement] = {}  # one of an evaluator that trains no network
        for evaluator in evaluators or [named]:
            own = theirs if evaluator == named else {}
            for network in networks or several(own.get("network", "")):
                measured = replace(ctx, base_seed=evaluation_seed, method=entry.spec.name)
                trained = repeats or own.get("repeats")
                one = _measurement(measured, evaluator, network, mine.ipc or budgets[0], trained)
                measurements.setdefault((evaluator, one.ctx.network), one)
        found.append(Planned(method, mine, entry, tuple(measurements.values())))
    tried = {each.ctx.network: each.ctx for one in found for each in one.measurements}
    for each in tried.values():
        check_network(each)
    return found


def preset_says(ctx: Context, method: str, ipc: int | None, key: str) -> Any:
    """Return what a method's preset says of its experiment, or None."""
    _, mine, _ = prepare_method(ctx, method, ipc, 0)
    value, _ = mine.resolved.experiment.get(key, (None, ""))
    return value


def several(value: Any) -> list[Any]:
    """Return a list, of one where it is none."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _measurement(ctx: Context, name: str, network: str, ipc: int, repeats: int | None) -> Measurement:
    evaluator, mine, entry = prepare_evaluator(ctx, name, network, ipc)
    return Measurement(evaluator, mine, entry, repeats or evaluator.default_repeats)


def carry_out(planned: Iterable[Planned], registry: Path, *, force: bool = False) -> Iterator[Record]:
    """Distil and measure one after the other; the first error ends it, and what was finished before is kept."""
    alike: Alike | None = None
    for one in planned:
        made = one.distil(force=force)
        alike = alike or Alike(one.ctx.reporter.warn)
        alike.look(made)
        for measurement in one.measurements:
            yield measurement.carry_out(made, registry, force=force)
