"""Two methods side by side, setting by setting: effect, interval, p, n, and what these runs cannot say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import UsageError, unknown
from ddbench.results.registry import Problem, load, no_records, read_good
from ddbench.results.runs import by_set, unified
from ddbench.results.schema import Record
from ddbench.tables.board import Entry
from ddbench.tables.declared import declared
from ddbench.tables.leaderboard import Layout, by_variant, called, entry
from ddbench.tables.stats import LEVEL, Difference, McNemar, bootstrap, detectable, difference, holm, mcnemar

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Setting:
    """Two methods under one protocol, on one data set, with one budget and network.

    Attributes:
        title: the setting in words.
        first, second: their runs.
        over_runs: the difference for these test images, over distillation seeds and repeats.
        over_images: the same over test images as well, or None where correctness cannot be paired.
        networks: exact McNemar test of the first network of each, or None likewise.
        same_networks: whether both are networks of the same images and seeds, so that there is nothing to compare.
        variants: both with their options: a method's name stands for the only one that was measured in a setting.
    """

    title: str
    first: Entry
    second: Entry
    over_runs: Difference
    over_images: Difference | None
    networks: McNemar | None
    same_networks: bool = False
    variants: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Comparison:
    """Two methods or records, compared in every setting that both were measured in; its text says all of it.

    Attributes:
        first, second: what they are called.
        settings: at least one.
        unclear: further settings, that were left out because a method was measured there in several variants, with
            their names.
    """

    first: str
    second: str
    settings: tuple[Setting, ...]
    unclear: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.settings and self.unclear:
            raise UsageError(
                f"{self.first} or {self.second} was measured in several variants.",
                hint="\n".join(("Name one:", *self.unclear)),
            )
        if not self.settings:
            raise UsageError(
                f"{self.first} and {self.second} were not measured under one protocol on one data set.",
                hint="`ddbench leaderboard` shows what was measured; `ddbench run` makes what is missing.",
            )

    @property
    def corrected(self) -> tuple[float | None, ...]:
        """The p value of every setting, corrected by Holm over all of them; None where there are too few runs."""
        tested = {place: setting for place, setting in enumerate(self.settings) if not setting.same_networks}
        p_values = holm({place: setting.over_runs.p_value for place, setting in tested.items()})
        return tuple(p_values.get(place) for place in range(len(self.settings)))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, by the names of the attributes; what ``ddbench compare --json`` prints."""
        settings = []
        for setting, p in zip(self.settings, self.corrected, strict=True):
            sides = {name: side.to_dict() for name, side in (("first", setting.first), ("second", setting.second))}
            settings.append({**asdict(setting), **sides, "corrected": p})
        return {"first": self.first, "second": self.second, "settings": settings, "unclear": list(self.unclear)}

    def __repr__(self) -> str:
        count = len(self.settings)
        return f"<Comparison of {self.first} with {self.second} in {count} setting{'s' * (count != 1)}>"

    def __str__(self) -> str:
        corrected = self.corrected
        tests = sum(p is not None for p in corrected)
        text = [f"{self.first} minus {self.second}, in points"]
        for setting, p in zip(self.settings, corrected, strict=True):
            known = {self.first, self.second, ""}
            which = [f"  here {one}" for one in setting.variants if one not in known]
            text += ["", setting.title, *which, *(f"  {line}" for line in _lines(setting, p, tests))]
        if self.unclear:
            text += ["", "left out, where several variants were measured and none was named:"]
            text += [f"  {one}" for one in self.unclear]
        return "\n".join(text)


def of_registry(
    registry: Path, first: str, second: str, folder: Path, **filters: Collection[Any]
) -> tuple[Comparison, list[Problem]]:
    """Compare two methods by the records of a registry, or two files of records.

    Args:
        registry: its folder.
        first, second: names of methods, labels with options as tables show them, or paths that end in ``.json``.
        folder: of the tables; its boards.toml says what they call methods and variants.
        filters: of :func:`ddbench.results.registry.select`; they do not apply to files.

    Returns:
        The comparison, and what is wrong with the records that were left out.

    Raises:
        UsageError: nothing to compare, or not comparable; a mistake in boards.toml.
        RecordError: a file that is no record in order.
    """
    if first == second:
        raise UsageError(f"Both are {first!r}.", hint="Name two methods, or two records.")
    if first.endswith(".json") or second.endswith(".json"):
        return of_records(read_good(Path(first)), read_good(Path(second)), (first, second)), []
    records, problems = load(registry, without=("curves",), **filters)
    if not records:
        raise no_records(registry, filters)
    content = declared(folder)
    layout = replace(content.layout(), names=content.names)
    return of_methods(records, first, second, layout), problems


def of_methods(records: Iterable[Record], first: str, second: str, layout: Layout | None = None) -> Comparison:
    """Compare two methods wherever both were measured: in every setting that they share in a table.

    Args:
        records: all that may be compared.
        first, second: names of methods, or labels with options, as tables show them.
        layout: what tables call methods and variants.

    Raises:
        UsageError: a method that was not measured, a name that several variants share in every common setting, or two
            methods without one.
    """
    layout = layout or Layout()
    groups: dict[tuple[object, ...], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for column, members in by_variant(records, layout):
        method, shown = column.method, layout.called(column.method)
        names[method][method] = names[shown][method] = None
        for name in (column.label, shown + column.label.removeprefix(method), called(column, layout)):
            names[name][column.label] = None
        for record in members:
            groups[_setting(record)][column.label].append(record)
    first, second = (_known(name, names) for name in (first, second))
    settings, unclear = [], []
    for key in sorted(groups, key=str):
        ours, theirs = (_variants(groups[key], name) for name in (first, second))
        if not ours or not theirs:
            continue
        if several := [label for side in (ours, theirs) if len(side) > 1 for label in sorted(side)]:
            unclear.append(f"{_title(next(iter(ours.values())))}: {'; '.join(several)}")
            continue
        ((one, first_records),), ((two, second_records),) = ours.items(), theirs.items()
        settings.append(replace(_compare(first_records, second_records), variants=(one, two)))
    return Comparison(first, second, tuple(settings), tuple(unclear))


def of_records(first: Record, second: Record, names: tuple[str, str]) -> Comparison:
    """Compare two records.

    Raises:
        UsageError: of different protocols or data sets, which cannot be compared.
    """
    first, second = unified([first, second])
    if _data(first) != _data(second) or first.protocol.digest != second.protocol.digest:
        raise UsageError(
            "The two records are of different protocols or data sets.", hint="`ddbench show RECORD RECORD` says how."
        )
    return Comparison(*names, (_compare([first], [second]),))


def _lines(setting: Setting, corrected: float | None, tests: int) -> list[str]:
    one, two, runs = setting.first, setting.second, setting.over_runs
    text = [f"{one.text} % ({one.runs})  and  {two.text} % ({two.runs}), distilled sets × networks"]
    if setting.same_networks:
        return [*text, "both are the same images and networks: there is nothing to compare"]
    if (interval := _interval(runs)) and runs.p_value is not None:
        also = f", {_p(corrected)} corrected over {tests} settings" if tests > 1 and corrected is not None else ""
        text.append(f"effect {_points(runs.effect)}, 95 % interval {interval}, {_p(runs.p_value)}{also}")
        text.append(_verdict(runs, runs.p_value if corrected is None else corrected))
        text += _size(setting)
    else:
        text.append(f"effect {_points(runs.effect)}: too few runs to say anything; make more with --repeats and --seed")
    if setting.over_images is not None and (interval := _interval(setting.over_images)):
        text.append(f"over other test images as well (bootstrap): {interval}, {_p(setting.over_images.p_value)}")
    if setting.networks is not None:
        test = setting.networks
        text.append(
            f"first networks alone: {test.only_first} images right only in the first, {test.only_second} only in the"
            f" second (exact McNemar {_p(test.p_value)}; it says nothing about other networks or seeds)"
        )
    return text


def _verdict(runs: Difference, p: float) -> str:
    units = "distilled sets" if runs.unit == "sets" else "networks"
    n = f"n = {runs.n[0]} and {runs.n[1]} {units}"
    if p < LEVEL:
        return f"they differ ({n})"
    return f"not distinguishable ({n}), which does not mean that they are equal"


def _size(setting: Setting) -> list[str]:
    text = []
    if setting.over_runs.unit == "networks":
        text.append("one distilled set only: nothing is said about other distillation seeds")
    least = detectable(setting.first.groups, setting.second.groups)
    if least is not None:
        text.append(f"with so many runs, a true difference of {100 * least:.1f} points is seen in four of five trials")
    return text


def _compare(first: Sequence[Record], second: Sequence[Record]) -> Setting:
    one, two = entry(first), entry(second)
    paired = len({record.result.test_images for record in (*first, *second)}) == 1
    blocks = [_correct(side) for side in (first, second)] if paired else []
    return Setting(
        title=_title([*first, *second]),
        first=one,
        second=two,
        over_runs=difference(one.groups, two.groups),
        # Per-image correctness is that of the last network, so that it says nothing about a best epoch.
        over_images=bootstrap(blocks[0], blocks[1]) if paired and _last(first) and _last(second) else None,
        networks=mcnemar(blocks[0][0][0], blocks[1][0][0]) if paired else None,
        same_networks=_origins(first) == _origins(second),
    )


def _origins(records: Sequence[Record]) -> set[tuple[str, int]]:
    """Return what networks are trained from: the distilled set and the seed of the evaluation."""
    return {(record.distilled.digest, record.cell.evaluation_seed) for record in records}


def _last(records: Sequence[Record]) -> bool:
    return all(record.result.values == record.result.last for record in records)


def _correct(records: Sequence[Record]) -> list[NDArray[np.bool_]]:
    """Return bool [networks, images] per distilled set."""

    def bits(record: Record) -> list[NDArray[np.bool_]]:
        return [record.result.correct_bits(repeat) for repeat in range(len(record.result.correct))]

    return [np.stack(blocks) for blocks in by_set(records, bits).values()]


def _data(record: Record) -> tuple[object, ...]:
    data = record.cell.dataset
    return data["name"], data["fingerprint"], data["image_size"]


def _setting(record: Record) -> tuple[object, ...]:
    """Return what two results share that stand in one column of a table, by whichever preset they were requested."""
    cell, evaluator = record.cell, record.cell.evaluator
    return (*_data(record), cell.ipc, evaluator.name, evaluator.version, cell.network, record.protocol.digest)


def _title(records: Sequence[Record]) -> str:
    record, cell = records[0], records[0].cell
    presets = " and ".join(dict.fromkeys(other.cell.preset for other in records))
    extension = ", extension" if record.protocol.extension else ""
    return (
        f"{cell.dataset['name']}, IPC {record.budget}, {cell.evaluator.name} on {cell.network}, {presets},"
        f" protocol {record.protocol.digest[:8]}{extension}"
    )


def _known(name: str, names: Mapping[str, Collection[str]]) -> str:
    """Return the method or label that is meant, whatever the order of its options.

    Args:
        name: as tables show it, or as the method is registered.
        names: what each name stands for.

    Raises:
        UsageError: there is none, or several go by it.
    """
    meant = names.get(name) or {label for other, of in names.items() if _parts(other) == _parts(name) for label in of}
    if len(meant) == 1:
        return next(iter(meant))
    if meant:
        raise UsageError(f"{name} is what several variants are called.", hint=f"Name one: {'; '.join(sorted(meant))}.")
    method = name.partition(" (")[0]
    methods = names.get(method, ())
    variants = sorted(label for label in names if label in names[label] and label.partition(" (")[0] in methods)
    if name != method and variants:
        raise UsageError(f"{method} was not measured as {name!r}.", hint=f"Name one: {'; '.join(variants)}.")
    raise unknown("method", name, names)


def _parts(label: str) -> tuple[str, ...]:
    method, _, options = label.replace(") (", ", ").removesuffix(")").partition(" (")
    return (method, *sorted(options.split(", ")))


def _variants(labels: Mapping[str, list[Record]], name: str) -> dict[str, list[Record]]:
    """Return the records of a label, or of a method's variants."""
    if name in labels:
        return {name: labels[name]}
    return {label: members for label, members in labels.items() if members[0].cell.method.name == name}


def _interval(runs: Difference) -> str:
    return "" if runs.low is None or runs.high is None else f"{_points(runs.low)} to {_points(runs.high)}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _p(value: float | None) -> str:
    return "" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
