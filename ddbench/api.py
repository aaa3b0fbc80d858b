"""The Python API: everything the command line does, as functions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

from ddbench.errors import UsageError, unknown
from ddbench.experiment import jobs
from ddbench.experiment.cells import Measurement, SameImages, sets
from ddbench.experiment.pipeline import check_fit, check_named, check_network, distil
from ddbench.experiment.plan import Plan
from ddbench.experiment.plan import plan as plan_study
from ddbench.experiment.setup import context, with_dataset
from ddbench.experiment.study import Block, command
from ddbench.figures.gallery import preview
from ddbench.files.folders import taken
from ddbench.files.writing import check_writable
from ddbench.plugin import arguments
from ddbench.plugin.arguments import flag, names, numbers, path, text, whole
from ddbench.plugin.contracts import Budget
from ddbench.plugin.datasets import Dataset
from ddbench.plugin.interfaces import Distiller
from ddbench.plugin.manager import Plugins, load_plugins
from ddbench.results import exchange
from ddbench.results.collection import Records
from ddbench.results.labels import label
from ddbench.results.registry import Problem, check_seed
from ddbench.results.registry import load as read_registry
from ddbench.results.schema import Record, slug
from ddbench.runtime.cards import card as known_card
from ddbench.runtime.context import Bound, Context
from ddbench.runtime.progress import Reporter, numbered
from ddbench.runtime.steps import cached
from ddbench.runtime.store import Step
from ddbench.sets import folder as disk
from ddbench.sets import hub, sources
from ddbench.sets.declared import IMPORTED, Declared
from ddbench.sets.folder import LoadedSet
from ddbench.sets.importing import read_set
from ddbench.sets.importing import write as _write_imported
from ddbench.sets.made import Distilled
from ddbench.sets.pushing.publication import Publication, by_config
from ddbench.sets.pushing.upload import Pushed, publish
from ddbench.sets.sources import Source
from ddbench.sets.whitening import Whitening
from ddbench.tables import boards, comparing
from ddbench.tables.boards import Boards
from ddbench.tables.comparing import Comparison

Options = Mapping[str, Mapping[str, Any]]
Names = str | Iterable[str]
Numbers = SupportsIndex | Iterable[SupportsIndex]  # NumPy's, too
Files = str | Path | Iterable[str | Path]


def run(
    method: Names,
    eval: Names = "",
    *,
    dataset: str = "",
    ipc: Numbers = 10,
    network: Names = "",
    seed: Numbers = (),
    evaluation_seed: SupportsIndex = 0,
    repeats: SupportsIndex | None = None,
    preset: str = "",
    options: Options | None = None,
    plugins: Files = (),
    registry: str | Path = "registry",
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Records:
    """Distil with every method and evaluate under every protocol; write and return one record per cell.

    Args:
        method: names of methods.
        eval: names of evaluators; the one of the method's preset when empty.
        dataset: a data set's name; the embedded default when empty.
        ipc: images per class; several make several cells. Methods that keep the whole training set run once.
        network: networks under test; the evaluator's own choice when empty.
        seed: distillation seeds, each of which makes its own distilled set; those of the method's preset, else 0, when
            empty.
        evaluation_seed: base of the students' seeds.
        repeats: networks trained per distilled set; the evaluator's default when None.
        preset: scale and fidelity, e.g. ``paper+official``; ``cpu+sane`` when empty.
        options: scope → option → value, e.g. ``{"method": {"strength": 0.6}, "eval": {"epochs": 100}}``.
        plugins: plugin files to load besides the installed ones.
        registry: folder whose ``results/`` receives the records.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        offline: never open a network connection.
        force: distil and train again instead of reusing what is there.
        reporter: where progress and notes go; nowhere when None.

    Returns:
        The records, also those that the registry had already.

    Raises:
        DDBenchError: an explained error; finished steps and records are kept.

    Example:
        >>> records = ddbench.run(["random", "vlcp"], "rded", ipc=[1, 10], repeats=3)
        >>> records.to_frame().groupby(["ipc", "method"])["value"].mean()
    """
    count, target, again = _count(repeats), path(registry, "registry").absolute(), flag(force, "force")
    block = _block(method, eval, dataset, ipc, network, seed, evaluation_seed, count, preset, options)
    ctx = context(plugins, "", None, device, precision, offline, reporter)
    expansion = jobs.expand(command(block), ctx)
    for failure in expansion.failures:
        raise failure.error
    check_writable(target)
    done = jobs.run(expansion.jobs, target, ctx.reporter, force=again, stop=True)
    return Records(record for record in done if isinstance(record, Record))


def plan(
    method: Names,
    eval: Names = "",
    *,
    dataset: str = "",
    ipc: Numbers = 10,
    network: Names = "",
    seed: Numbers = (),
    evaluation_seed: SupportsIndex = 0,
    repeats: SupportsIndex | None = None,
    preset: str = "",
    options: Options | None = None,
    plugins: Files = (),
    registry: str | Path = "registry",
    device: str = "auto",
    precision: str = "auto",
    card: str = "",
) -> Plan:
    """Return what :func:`run` with the same arguments would do: cells, steps with estimates, data and weights.

    Nothing is run, and no network connection is opened. The other arguments are those of :func:`run`.

    Args:
        card: a GPU to estimate for, which need not be here, e.g. ``h100``; this machine when empty.

    Raises:
        UsageError: what would stop the run before it has done anything, or an unknown card.

    Example:
        >>> print(ddbench.plan("vlcp", "rded", dataset="imagenette", preset="paper"))
    """
    where, count, chosen = path(registry, "registry"), _count(repeats), known_card(text(card, "card"))
    block = _block(method, eval, dataset, ipc, network, seed, evaluation_seed, count, preset, options)
    return plan_study(command(block), context(plugins, "", None, device, precision, offline=True), where, chosen)


def distill(
    method: Names,
    *,
    dataset: str = "",
    ipc: Numbers = 10,
    seed: Numbers = (),
    preset: str = "",
    options: Options | None = None,
    plugins: Files = (),
    out: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    force: bool = False,
    reporter: Reporter | None = None,
) -> list[LoadedSet]:
    """Distil without evaluating; the arguments are those of :func:`run`.

    Args:
        out: folder to copy the distilled sets into, one sub-folder each; one that is there is never overwritten, and
            left as it is if it holds the same.

    Returns:
        One set per method, budget and seed, in this order.

    Raises:
        DDBenchError: an explained error; finished steps are kept.
    """
    methods, budgets = _some(names(method, "method"), "method"), _some(numbers(ipc, "ipc", 1), "ipc")
    seeds, again = numbers(seed, "seed"), flag(force, "force")
    target = None if out is None else path(out, "out").absolute()
    ctx = context(plugins, preset, options, device, precision, offline, reporter)
    _known(ctx.plugins, "method", methods)
    ctx = with_dataset(ctx, dataset)
    planned = sets(ctx, methods, budgets, seeds)
    if target is not None:
        for _, mine, entry in planned:
            folder = _set_folder(target, ctx.dataset, entry.spec.name, mine.ipc, mine.base_seed)
            _free(folder, {"method": entry.spec.name, "ipc": mine.ipc, "seed": mine.base_seed})
    for bound in planned:
        check_named(bound)
    loaded = []
    same = SameImages(ctx.reporter.warn)
    for _, bound in numbered(ctx.reporter, planned, _title):
        _, mine, entry = bound
        made = distil(bound, force=again)
        same.look(made)
        folder = made.path
        if target is not None:
            folder = _set_folder(target, ctx.dataset, entry.spec.name, mine.ipc, mine.base_seed)
            disk.copy(made.path, folder)
        loaded.append(disk.load(folder, ctx.dataset))
    return loaded


def evaluate(
    path: str | Path,
    eval: Names,
    *,
    dataset: str = "",
    network: Names = "",
    name: str = "",
    evaluation_seed: SupportsIndex = 0,
    repeats: SupportsIndex | None = None,
    preset: str = "",
    options: Options | None = None,
    plugins: Files = (),
    registry: str | Path = "registry",
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    force: bool = False,
    reporter: Reporter | None = None,
    **declared: Any,
) -> Records:
    """Evaluate an already distilled set: one that ddbench wrote, a tree of pictures, or the tensors of released code.

    Args:
        path: the folder or file, or ``hf:USER/REPO[@REVISION][:CONFIG]``.
        dataset: the data set it was distilled from; read from its ``distilled.json`` when empty.
        name: what to call the method in records; the recorded name, or the folder's, when empty.
        declared: what the files of a third-party set do not state: the fields of :class:`ddbench.Declared`.

    The other arguments are those of :func:`run`.

    Returns:
        One record per evaluator and network.

    Raises:
        DataError: the folder's classes are not those of the data set (matched by id or name, never by position).

    Example:
        >>> ddbench.evaluate("images/", "minimax", dataset="imagenette", name="minimax-authors")
    """
    evaluators, networks = _some(names(eval, "eval"), "eval"), names(network, "network")
    base, wished, again = whole(evaluation_seed, "evaluation_seed"), _count(repeats), flag(force, "force")
    where, target = arguments.path(path, "path"), arguments.path(registry, "registry").absolute()
    declaration = _declared(declared)
    ctx = context(plugins, preset, options, device, precision, offline, reporter)
    _known(ctx.plugins, "evaluator", evaluators)
    with sources.opened(where, offline=offline, warn=ctx.reporter.warn) as source:
        ctx = with_dataset(ctx, text(dataset, "dataset") or disk.dataset_name(source.path))
        made = _read_set(ctx, source, text(name, "name"), declaration)
    ctx = replace(ctx, base_seed=base, method=made.plugin.name)
    if (whitened := made.content.whitening) and IMPORTED not in made.content.extra and not ctx.dataset.zca:
        ctx = ctx.with_dataset(replace(ctx.dataset, zca=whitened.recipe))  # as the run that made it used it
    if ctx.dataset.zca and not whitened and IMPORTED not in made.content.extra and not name:
        raise UsageError(
            f"The set was distilled from plain images; with data.zca={ctx.dataset.zca} its record would be taken for"
            " that of a set which was distilled from whitened ones.",
            hint=f"Give it a name of its own (--name {made.plugin.name}-plain), or distil it with data.zca.",
        )
    planned = [Measurement.of(ctx, one, net, made.ipc, wished) for one in evaluators for net in networks or [""]]
    for measurement in planned:
        check_fit(measurement.evaluator, made.plugin.name, made.content.holds)
        check_network(measurement.evaluator.ctx)
        check_named(measurement.evaluator)
    check_writable(target)
    title = f"{made.plugin.name} on {ctx.dataset.name}, IPC {Budget(made.ipc)}, seed {made.seed}"
    results = []
    for place, measurement in numbered(ctx.reporter, planned, lambda one: f"{title}, {one.title}"):
        results.append(measurement.carry_out(made, target, force=again))
        ctx.reporter.log(f"{place} accuracy {results[-1].accuracy} %")
    return Records(results)


def import_set(
    source: str | Path,
    name: str,
    *,
    dataset: str = "",
    out: str | Path | None = None,
    preset: str = "",
    options: Options | None = None,
    plugins: Files = (),
    offline: bool = False,
    reporter: Reporter | None = None,
    **declared: Any,
) -> LoadedSet:
    """Convert a third-party distilled set into an ordinary one, and return it.

    Args:
        source: a tree of pictures, parquet files, an archive, or a file of tensors as released code writes it; or
            ``hf:USER/REPO[@REVISION][:CONFIG]``.
        name: what to call its method in records; not the name of a method of ddbench.
        dataset: the data set it was distilled from; the embedded default when empty.
        out: folder to copy the set into, as a sub-folder; one that is there is never overwritten, and left as it is if
            it holds the same.
        declared: what the files do not state: the fields of :class:`ddbench.Declared`.

    Raises:
        DataError: files that cannot be read safely, or do not fit the data set.
        UsageError: something that must be declared, such as the pixel space.

    Example:
        >>> ddbench.import_set("images_best.pt", "mtt-authors", dataset="cifar10", space="normalised")
    """
    where, called, declaration = path(source, "source"), text(name, "name"), _declared(declared)
    target = None if out is None else path(out, "out").absolute()
    ctx = with_dataset(context(plugins, preset, options, "cpu", "fp32", offline, reporter), dataset)
    with sources.opened(where, offline=offline, warn=ctx.reporter.warn) as opened:
        made = _read_set(ctx, opened, called, declaration)
    if declaration.recipe:
        whitening = Whitening.of(ctx, declaration.recipe)
        whitening.check(made.content.images, ctx.warn)
        made = replace(made, content=whitening.made(made.content))
    folder = None if target is None else _set_folder(target, ctx.dataset, made.plugin.name, made.ipc, made.seed)
    if folder is not None:
        _free(folder, {"method": made.plugin.name, "ipc": made.ipc, "seed": made.seed})
    about: dict[str, Any] = {"method": made.plugin.model_dump(), "ipc": made.ipc, "seed": made.seed}
    about["extra"] = dict(made.content.extra)
    if made.shrunk:
        about["shrunk"] = [list(change) for change in made.shrunk]
    inputs = {"format": disk.FORMAT, "digest": made.digest, **about}

    def build(step: Step) -> None:
        _write_imported(made, step.dir, ctx.dataset, preview(made.content, ctx.dataset))

    done = cached(ctx, "imported", ctx.depends(inputs), build)
    if folder is not None:
        disk.copy(done.dir, folder)
    return disk.load(folder or done.dir, ctx.dataset)


def push(
    sets: Files,
    repo: str,
    *,
    licence: str,
    out: str | Path | None = None,
    dry_run: bool = False,
    private: bool = False,
    registry: str | Path = "registry",
    plugins: Files = (),
) -> Pushed:
    """Publish distilled sets of one method on one data set in a repository of the Hugging Face hub.

    Args:
        sets: their folders, one per IPC and seed.
        repo: ``hf:USER/REPO``.
        licence: id by which the hub knows it, such as ``cc-by-4.0``.
        out: write the repository to this new folder instead of the hub.
        dry_run: only say which files would go up.
        private: let its owner alone see a repository that is new.
        registry: whose records of these sets go with them, and give the accuracies of the card.
        plugins: plugin files with the method, which says what to cite.

    Returns:
        Names and sizes of the files, and the commit.

    Raises:
        RecordError: a folder is no distilled set, or was changed.
        UsageError: several methods or data sets, two sets of one IPC and seed, or no address on the hub.
        DataError: the hub refused it; ``huggingface_hub`` knows the login.

    Example:
        >>> ddbench.push("distilled/cifar10-dm-ipc10-seed0", "hf:me/cifar10-dm", licence="cc-by-4.0", dry_run=True)
    """
    address = hub.parse(text(repo, "repo"))
    if address is None or address.revision or address.config:
        raise UsageError(f"{repo!r} is no repository on the hub.", hint=f"Write {hub.PREFIX}USER/REPO.")
    named = by_config(disk.load(folder) for folder in _some(arguments.paths(sets, "sets"), "sets"))
    digests = {one.about["digest"] for one in named.values()}
    good, problems = read_registry(path(registry, "registry"))
    _warn(problems)
    method = next(iter(named.values())).about["method"]["name"]
    entry = load_plugins(arguments.paths(plugins, "plugins")).entries["method"].get(method)
    publication = Publication(
        address.repo,
        named,
        tuple(record for record in good if record.distilled.digest in digests),
        text(licence, "licence"),
        entry.spec.bibtex if entry else "",
    )
    return publish(publication, address, None if out is None else path(out, "out").absolute(), dry_run, private)


def pull(
    source: str | Path,
    *,
    out: str | Path = "distilled",
    registry: str | Path | None = None,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> list[LoadedSet]:
    """Bring sets that :func:`push` published into a folder, each as it was, and return them.

    Args:
        source: ``hf:USER/REPO[@REVISION][:CONFIG]``, or a local copy of the repository; all its sets without a
            configuration.
        out: folder that receives one sub-folder per set; one that is there is never overwritten, and left as it is if
            it holds the same.
        registry: takes the records that were published with the sets, those that verify; nowhere when None.
        offline: never open a network connection.
        reporter: where notes go; nowhere when None.

    Raises:
        UsageError: the repository holds no set of ddbench.
        DataError: it cannot be fetched or read.
        RecordError: a set is not what its ``distilled.json`` says.
    """
    target, loaded = path(out, "out").absolute(), []
    warn = (reporter or Reporter()).warn
    with sources.pushed(arguments.path(source, "source"), offline=offline, warn=warn) as found:
        for one in found:
            about = disk.load(one.path).about
            folder = target / _set_name(about["dataset"]["name"], about["method"]["name"], about["ipc"], about["seed"])
            disk.copy(one.path, folder)
            loaded.append(disk.load(folder))
            if registry is not None and one.records is not None:
                report = exchange.import_records(one.records, path(registry, "registry"))
                for problem in report.refused:
                    warn(f"refused {problem}")
    return loaded


def load(path: str | Path) -> LoadedSet:
    """Load a distilled set from its folder as arrays; ``.torch_dataset()`` gives a torch data set.

    Raises:
        RecordError: the folder is not a distilled set or was changed.
    """
    return disk.load(arguments.path(path, "path"))


def records(
    registry: str | Path = "registry",
    *,
    dataset: Names = (),
    method: Names = (),
    evaluator: Names = (),
    network: Names = (),
    ipc: Numbers = (),
    seed: Numbers = (),
) -> Records:
    """Read the records of a registry; ``.to_frame()`` gives them to pandas, one row per trained network.

    Records that are damaged or were edited are left out, and a warning names each.

    Args:
        registry: folder whose ``results/`` holds them; one that does not exist is empty.
        dataset, method, evaluator, network: names; empty filters let everything through.
        ipc: images per class.
        seed: distillation seeds.

    Example:
        >>> frame = ddbench.records(dataset="cifar10", ipc=10).to_frame()
        >>> frame.groupby(["protocol", "network", "variant"])["value"].mean()
    """
    filters = _filters(dataset=dataset, method=method, evaluator=evaluator, network=network, ipc=ipc, seed=seed)
    good, problems = read_registry(path(registry, "registry"), **filters)
    _warn(problems)
    return Records(good)


def compare(
    first: str | Path,
    second: str | Path,
    registry: str | Path = "registry",
    *,
    folder: str | Path = boards.FOLDER,
    dataset: Names = (),
    evaluator: Names = (),
    network: Names = (),
    ipc: Numbers = (),
) -> Comparison:
    """Compare two methods in every setting that both were measured in, or two records.

    Args:
        first, second: names of methods, methods with options (``"vlcp (strength=0.6)"``), what tables call them, or
            files of records.
        registry: folder of the records.
        folder: of the tables, whose ``boards.toml`` says what they call methods.
        dataset, evaluator, network, ipc: only these settings.

    Returns:
        Effects with intervals and p values by setting; ``print`` shows what ``ddbench compare`` prints.

    Raises:
        UsageError: a method that was not measured, or nothing that can be compared.
    """
    filters = _filters(dataset=dataset, evaluator=evaluator, network=network, ipc=ipc)
    one, other = (side if isinstance(side, str) else str(path(side, "a record")) for side in (first, second))
    at, tables = path(registry, "registry"), path(folder, "folder")
    comparison, problems = comparing.of_registry(at, one, other, tables, **filters)
    _warn(problems)
    return comparison


def leaderboard(
    registry: str | Path = "registry",
    *,
    board: str = "",
    folder: str | Path = boards.FOLDER,
    classes: bool = False,
) -> Boards:
    """Turn the records of a registry into comparison tables; nothing is written.

    Args:
        registry: folder of the records.
        board: the name of the only board wanted: a data set's, or one of boards.toml.
        folder: of the pages, whose ``boards.toml`` declares further boards and the order of columns.
        classes: accuracies by class as well, for which the data sets must be here.

    Returns:
        The boards, which notebooks show as HTML; ``.to("latex")`` and the like write them as text.

    Raises:
        UsageError: no board of that name, or records of another data set than the one here.
        DataError: a data set is not here.
    """
    where = path(registry, "registry"), path(folder, "folder")
    made, problems = boards.of_registry(*where, text(board, "board"), labels_of if flag(classes, "classes") else None)
    _warn(problems)
    return made


def labels_of(name: str) -> boards.Labels:
    """Return a data set's fingerprint and its test labels, int64 [N]."""
    dataset = load_dataset(name)
    return dataset.fingerprint, dataset.test.labels


def load_dataset(
    name: str = "",
    *,
    preset: str = "",
    options: Options | None = None,
    plugins: Files = (),
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Dataset:
    """Load a data set by name (the embedded default when empty).

    Args:
        name: as `ddbench list datasets` shows it, ``folder:PATH`` or ``npz:PATH``.
        preset, options, plugins, offline, reporter: as for :func:`run`; options of the scope ``data``, such as
            ``{"data": {"size": 64}}``.

    Raises:
        DataError: its files are missing or broken; the hint tells how to get them.

    Example:
        >>> images, labels = ddbench.load_dataset("digits").arrays("train")  # uint8 [N, S, S, C], int64 [N]
    """
    ctx = context(plugins, preset, options, "cpu", "fp32", offline, reporter)
    return with_dataset(ctx, name).dataset


def _block(
    method: Names,
    eval: Names,
    dataset: str,
    ipc: Numbers,
    network: Names,
    seed: Numbers,
    evaluation_seed: SupportsIndex,
    repeats: int | None,
    preset: str,
    options: Options | None,
) -> Block:
    """Read what to measure."""
    seeds, base = numbers(seed, "seed"), whole(evaluation_seed, "evaluation_seed")
    for one in (*seeds, base):
        check_seed(one)
    return Block(
        method=tuple(_some(names(method, "method"), "method")),
        eval=tuple(names(eval, "eval")),
        dataset=(text(dataset, "dataset"),),
        ipc=tuple(_some(numbers(ipc, "ipc", 1), "ipc")),
        network=tuple(names(network, "network")),
        seed=tuple(seeds),
        evaluation_seed=base,
        repeats=repeats,
        preset=text(preset, "preset"),
        option=arguments.options(options),
    )


def _read_set(ctx: Context, source: Source, name: str, declared: Declared) -> Distilled:
    return read_set(
        source.path,
        ctx.dataset,
        name or source.name,
        declared,
        taken=ctx.plugins.entries["method"],
        warn=ctx.reporter.warn,
        tables=source.tables,
        origin=source.origin,
        said=source.said,
    )


def _set_folder(out: Path, dataset: Dataset, method: str, ipc: int | None, seed: int) -> Path:
    return out / _set_name(dataset.name, method, ipc, seed)


def _set_name(dataset: str, method: str, ipc: int | None, seed: int) -> str:
    return slug(f"{dataset}-{method}-ipc{'full' if ipc is None else ipc}-seed{seed}")


def _free(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse a folder that is in the way before any work is done; a set of the same run may be the very one to make."""
    if os.path.lexists(folder) and disk.summary(folder) != wanted:
        raise taken(folder)


def _title(bound: Bound[Distiller]) -> str:
    """Return which set is made, in words."""
    _, ctx, entry = bound
    what = label(entry.name, ctx.resolved.explicit)
    return f"{what} on {ctx.dataset.name}, IPC {Budget(ctx.ipc)}, seed {ctx.base_seed}"


def _known(plugins: Plugins, kind: str, names: Iterable[str]) -> None:
    for name in names:
        plugins.get(kind, name)


def _filters(**values: Any) -> dict[str, list[Any]]:
    """Read the filters of records."""
    return {name: (numbers if name in ("ipc", "seed") else names)(value, name) for name, value in values.items()}


def _warn(problems: Iterable[Problem]) -> None:
    for problem in problems:
        warnings.warn(f"left out {problem}", stacklevel=3)


def _some(values: list[Any], what: str) -> list[Any]:
    if not values:
        raise UsageError(f"{what} is empty: at least one is needed.")
    return values


def _count(repeats: Any) -> int | None:
    return None if repeats is None else whole(repeats, "repeats", 1)


def _declared(values: Mapping[str, Any]) -> Declared:
    """Read what the files of a third-party set do not state."""
    read: dict[str, Callable[[Any, str], Any]] = {
        "space": text,
        "mean": arguments.decimals,
        "std": arguments.decimals,
        "run": whole,
        "classes": arguments.texts,
        "learning_rate": arguments.decimal,
        "labels": text,
        "factor": whole,
    }
    for name in values:
        if name not in read:
            raise unknown("argument", name, read)
    given = {name: value for name, value in values.items() if value is not None}
    return Declared(**{name: read[name](value, name) for name, value in given.items()})
