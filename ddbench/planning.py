"""Which cells a call means: everything is resolved before anything runs, so that a typo costs no hours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ddbench.context import Context
from ddbench.exchange import keep
from ddbench.interfaces import Distiller, Evaluator
from ddbench.pipeline import (
    Distilled,
    check_network,
    describe_cell,
    distil,
    evaluate,
    plugin_part,
    prepare_evaluator,
    prepare_method,
)
from ddbench.plugins import Entry
from ddbench.records import Cell, Record


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
        return describe_cell(measurement.ctx, method, evaluator, ipc=self.ctx.ipc, seed=self.ctx.base_seed)


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
        seeds: distillation seeds.
        evaluation_seed: base of the students' seeds.
        repeats: networks trained per distilled set; the evaluator's default when None.

    Raises:
        UsageError: a name, an option, an IPC or a network that does not exist or does not fit the data.
    """
    prepared = {}
    for name in methods:
        for count in budgets:
            for seed in seeds:
                method, mine, entry = prepare_method(ctx, name, count, seed)
                prepared[name, mine.ipc, mine.base_seed] = method, mine, entry
    found = []
    for method, mine, entry in prepared.values():
        measurements = [
            _measurement(replace(ctx, base_seed=evaluation_seed), name, network, mine.ipc or budgets[0], repeats)
            for name in evaluators
            for network in networks or [""]
        ]
        found.append(Planned(method, mine, entry, tuple(measurements)))
    tried = {each.ctx.network: each.ctx for one in found for each in one.measurements}
    for one in tried.values():
        check_network(one)
    return found


def _measurement(ctx: Context, name: str, network: str, ipc: int, repeats: int | None) -> Measurement:
    evaluator, mine, entry = prepare_evaluator(ctx, name, network, ipc)
    return Measurement(evaluator, mine, entry, repeats or evaluator.default_repeats)


def carry_out(planned: Iterable[Planned], registry: Path, *, force: bool = False) -> Iterator[Record]:
    """Distil and measure one after the other; the first error ends it, and what was finished before is kept."""
    for one in planned:
        made = one.distil(force=force)
        for measurement in one.measurements:
            yield measurement.carry_out(made, registry, force=force)
