"""Which sets a block of cells means and what is measured on them: everything is resolved before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddbench.errors import UsageError
from ddbench.experiment.dependencies import cell, plugin_part
from ddbench.experiment.pipeline import (
    check_fit,
    check_named,
    check_network,
    evaluate,
    held,
    prepare_evaluator,
    prepare_method,
)
from ddbench.plugin.contracts import Budget
from ddbench.plugin.interfaces import Distiller, Evaluator
from ddbench.results import labels
from ddbench.results.exchange import keep
from ddbench.results.schema import Cell, Record
from ddbench.runtime.context import Bound, Context
from ddbench.sets.made import Distilled


class SameImages:
    """Tells of distilled sets that have the same images as one before, as soon as they are made."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._first: dict[str, tuple[str, str]] = {}

    def look(self, made: Distilled) -> None:
        """Compare a set with those before it."""
        label = labels.label(made.plugin.name, made.plugin.explicit)
        title = f"{label}, IPC {Budget(made.ipc)}, seed {made.seed}"
        method, first = self._first.setdefault(made.digest, (made.plugin.name, title))
        if first != title:
            once = " and count once" * (method == made.plugin.name)  # two methods have a result each
            self._warn(f"{title} has the same images as {first}: their networks are the same{once}.")


@dataclass(frozen=True)
class Measurement:
    """An evaluator, bound to the network under test and its options, and the number of networks to train."""

    evaluator: Bound[Evaluator]
    repeats: int

    @property
    def title(self) -> str:
        """The evaluator with its options and network, in words."""
        _, ctx, entry = self.evaluator
        return f"{labels.label(entry.name, ctx.resolved.explicit)} on {ctx.network}"

    @classmethod
    def of(cls, ctx: Context, evaluator: str, network: str, ipc: int | None, repeats: int | None) -> Measurement:
        """Resolve an evaluator by name; its own number of repeats when None."""
        bound = prepare_evaluator(ctx, evaluator, network, ipc)
        return cls(bound, repeats or bound.plugin.default_repeats)

    def carry_out(self, made: Distilled, registry: Path, *, force: bool = False) -> Record:
        """Measure a distilled set, write the record and return what the registry holds then."""
        record = evaluate(self.evaluator, made, repeats=self.repeats, force=force)
        return keep(record, registry, self.evaluator.ctx.reporter.warn)


@dataclass(frozen=True)
class Planned:
    """A set to distil, and what to measure on it: one record each."""

    method: Bound[Distiller]
    measurements: tuple[Measurement, ...]

    def cell(self, measurement: Measurement) -> Cell:
        """Return the cell of a record that is still to be made."""
        _, ctx, entry = self.method
        _, measured, its = measurement.evaluator
        return cell(measured, plugin_part(ctx, entry), plugin_part(measured, its), ipc=ctx.ipc, seed=ctx.base_seed)


def sets(ctx: Context, methods: Sequence[str], budgets: Sequence[int], seeds: Sequence[int]) -> list[Bound[Distiller]]:
    """Resolve every method at every budget and seed; those that keep the whole training set stand once.

    Args:
        ctx: with a data set, options and preset.
        methods: their names.
        budgets: images per class.
        seeds: distillation seeds; those of the method's preset, else 0, when empty.

    Raises:
        UsageError: a name, an option or an IPC that does not exist or does not fit the data.
    """
    bound = [
        prepare_method(ctx, name, count, seed)
        for name in methods
        for count in budgets
        for seed in seeds or several(_preset_seed(ctx, name, count))
    ]
    return list({(one.entry.name, one.ctx.ipc, one.ctx.base_seed): one for one in bound}.values())


def resolve(
    ctx: Context,
    methods: Sequence[str],
    evaluators: Sequence[str],
    *,
    budgets: Sequence[int],
    networks: Sequence[str],
    seeds: Sequence[int],
    evaluation_seed: int,
    repeats: int | None,
    build: bool = True,
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
        build: whether to see that the networks can be built, which imports torch.

    What is left open (no evaluators, networks or seeds, no number of repeats) is what the method's preset specifies for
    its experiment; its networks and repeats are those of the evaluator that it names.

    Raises:
        UsageError: a name, an option, an IPC or a network that does not exist or does not fit the data.
    """
    planned = []
    for method in sets(ctx, methods, budgets, seeds):
        _, mine, entry = method
        preset = {key: value for key, (value, _) in mine.resolved.experiment.items()}
        own = preset.get("eval", "")
        if not (evaluators or own):
            raise UsageError(
                f"No evaluator is named, and the preset {ctx.preset} of {entry.name} has none for {ctx.dataset.name}.",
                hint="Name one with --eval; `ddbench list evaluators` lists them.",
            )
        holds = held(method)
        measured = replace(ctx, base_seed=evaluation_seed, method=entry.spec.name)
        measurements: dict[tuple[str, str], Measurement] = {}  # one of an evaluator that trains no network
        for evaluator in evaluators or [own]:
            usual = preset if evaluator == own else {}
            for network in networks or several(usual.get("network", "")):
                count = repeats or usual.get("repeats")
                one = Measurement.of(measured, evaluator, network, mine.ipc or budgets[0], count)
                check_fit(one.evaluator, entry.name, holds)
                measurements.setdefault((evaluator, one.evaluator.ctx.network), one)
        planned.append(Planned(method, tuple(measurements.values())))
    contexts = [measurement.evaluator.ctx for one in planned for measurement in one.measurements]
    if build:
        for tried in {measured.network: measured for measured in contexts}.values():
            check_network(tried)
        for its in planned:
            check_named(its.method)
            for measurement in its.measurements:
                check_named(measurement.evaluator)
    return planned


def several(value: Any) -> list[Any]:
    """Return a list, of one where it is none."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _preset_seed(ctx: Context, method: str, ipc: int) -> Any:
    seed, _ = prepare_method(ctx, method, ipc, 0).ctx.resolved.experiment.get("seed", (0, ""))
    return seed or 0
