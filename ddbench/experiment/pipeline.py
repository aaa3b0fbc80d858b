"""The main way: resolve names and options → distil (or reuse) → evaluate each repeat → record."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ddbench.errors import PluginError, UsageError
from ddbench.experiment import dependencies
from ddbench.experiment.dependencies import plugin_part
from ddbench.figures.gallery import preview
from ddbench.keys import digest
from ddbench.plugin.contents import CONTENTS
from ddbench.plugin.contracts import LABEL_KINDS, Budget, DistilledSet, Protocol, Score
from ddbench.plugin.datasets import Dataset, check_ipc
from ddbench.plugin.interfaces import DatasetLoader, Distiller, Evaluator
from ddbench.plugin.manager import NO_NETWORK, Entry, load_plugin, plugin_errors
from ddbench.plugin.options import DatasetOptions, named, tagged
from ddbench.plugin.ranges import doubt
from ddbench.results.registry import check_name, check_seed, flaws
from ddbench.results.runs import telling
from ddbench.results.schema import (
    SNAPSHOTS,
    Costs,
    DistilledPart,
    PluginPart,
    ProtocolPart,
    Record,
    Result,
    pack_bits,
    record_key,
    result_digest,
)
from ddbench.runtime import environment
from ddbench.runtime.contents import by_content
from ddbench.runtime.context import Bound, Context, unfit_network
from ddbench.runtime.estimates import Effort, effort
from ddbench.runtime.machine import repeats_at_once
from ddbench.runtime.steps import at_work, cached
from ddbench.runtime.store import Done, Step, StepTaken
from ddbench.sets import folder as disk
from ddbench.sets.made import Distilled

#: Step of a trained and tested network.
STUDENT = "student"


def load_dataset(ctx: Context, name: str) -> Dataset:
    """Load a data set by name (``folder:PATH`` and the like included).

    Raises:
        UsageError: no such data set.
        DataError: its files are missing or corrupt.
    """
    entry = ctx.plugins.get("dataset", name)
    loader: DatasetLoader = load_plugin(entry)
    with plugin_errors(entry):
        mine = replace(ctx, _loading=name).with_options_of(loader, entry)
        dataset = loader.load(mine, entry.argument)
        who = f"Data set {entry.spec.name!r} of {entry.owner}"
        if not isinstance(dataset, Dataset):
            raise PluginError(f"{who} returned {type(dataset).__name__}, not a ddbench.Dataset.")
        if isinstance(mine.options, DatasetOptions) and mine.options.zca:
            dataset = replace(dataset, zca=mine.options.zca)
        dataset.check(who)
    check_name(dataset.name, "Rename the folder or file, or make a link to it.")
    return dataset


def prepare_method(ctx: Context, name: str, ipc: int | None, seed: int) -> Bound[Distiller]:
    """Resolve a method and its options without running anything.

    Raises:
        UsageError: an unknown name or option, an IPC that the data set cannot fill, a precision that the method does
            not have, or what the method itself refuses.
    """
    check_seed(seed)
    entry = ctx.plugins.get("method", name)
    method: Distiller = load_plugin(entry)
    if method.needs_ipc and ipc is not None:
        check_ipc(ctx.dataset, ipc)
    if ctx.machine.precision not in method.precisions:
        raise UsageError(
            f"Method {name} cannot be computed in {ctx.machine.precision}.",
            hint=f"Choose another precision: {', '.join(method.precisions)}.",
        )
    budget = ipc if method.needs_ipc else None
    mine = replace(ctx, ipc=budget, base_seed=seed if method.seeded else 0, ledger=[])
    bound = Bound(method, mine.with_options_of(method, entry), entry)
    with plugin_errors(entry):
        method.check(bound.ctx)
    return bound


def distil(bound: Bound[Distiller], *, force: bool = False) -> Distilled:
    """Distil, or reuse the finished set of the same data set, method, options, budget and seed."""
    method, ctx, entry = bound
    plugin = plugin_part(ctx, entry)

    def build(step: Step) -> None:
        with plugin_errors(entry), untouched(ctx.dataset, f"Method {plugin.name} of {entry.owner}"):
            result = method.distill(at_work(bound, checkpoint=step, _keep=partial(_keep, bound, step)))
            if not isinstance(result, DistilledSet):
                raise PluginError(f"Method {plugin.name} returned {type(result).__name__}, not a ddbench.DistilledSet.")
            result.check(ctx.dataset, Budget(ctx.ipc), plugin.name)
        if odd := doubt(result.images, result.space, ctx.dataset):
            ctx.warn(f"{plugin.name}: {odd}.")
        content = disk.save(step.dir, result, ctx.dataset, _about(ctx, entry), preview(result, ctx.dataset))
        step.info.update(digest=content["digest"], bytes=content["bytes"], steps=ctx.ledger)

    return _loaded(bound, cached(ctx, "distilled", artifact(bound), build, force=force, effort=distil_effort(bound)))


def artifact(bound: Bound[Distiller]) -> dict[str, Any]:
    """Return everything that a distilled set depends on.

    Raises:
        ModelError, DataError: a model or file that must be looked at is not there.
    """
    steps = dependencies.steps(*bound)  # first: what they fetch has an identity afterwards
    return {**bound.ctx.depends(dependencies.artifact(*bound, disk.FORMAT)), "steps": steps}


def distil_effort(bound: Bound[Distiller]) -> Effort | None:
    """Return what the time of distilling grows with, without the steps that it uses."""
    method, ctx, entry = bound
    with plugin_errors(entry):
        return effort(ctx, entry.name, method.work, ctx.resolved.dump())


def finished(bound: Bound[Distiller], inputs: Mapping[str, Any]) -> Distilled | None:
    """Return the distilled set that depends on ``inputs``, if it is there."""
    done = bound.ctx.store.get("distilled", inputs)
    return _loaded(bound, done) if done else None


def _loaded(bound: Bound[Distiller], done: Done) -> Distilled:
    ctx = bound.ctx
    loaded = disk.load(done.dir, ctx.dataset)
    return Distilled(
        plugin=plugin_part(ctx, bound.entry),
        content=loaded.distilled,
        # What a record names; where the code of a step lies is not.
        key=digest(ctx.depends(dependencies.artifact(*bound, disk.FORMAT))),
        digest=done.info["digest"],
        ipc=ctx.ipc,
        seed=ctx.base_seed,
        shrunk=_shrunk("method", ctx),
        steps=(steps := [*done.info["steps"], done.cost()]),
        seconds=sum(step["seconds"] for step in steps),
        bytes=done.info["bytes"],
        path=done.dir,
    )


def _keep(
    bound: Bound[Distiller],
    step: Step,
    name: str,
    distilled: DistilledSet,
    options: Mapping[str, Any],
) -> None:
    """Save a snapshot as what it is: the result of a run with other options."""
    method, ctx, entry = bound
    scope = f"method/{entry.spec.name.rstrip(':')}"
    explicit = {**ctx.explicit, scope: {**ctx.explicit.get(scope, {}), **options}}
    other = replace(ctx, explicit=explicit).with_options_of(method, entry)
    distilled.check(ctx.dataset, Budget(ctx.ipc), f"{entry.spec.name} (snapshot {name})")
    folder = step.dir / SNAPSHOTS / name
    disk.save(folder, distilled, ctx.dataset, _about(other, entry), preview(distilled, ctx.dataset))


def _about(ctx: Context, entry: Entry) -> dict[str, Any]:
    return {
        "method": plugin_part(ctx, entry).model_dump(),
        "ipc": ctx.ipc,
        "seed": ctx.base_seed,
        "shrunk": [list(change) for change in _shrunk("method", ctx)],
    }


def prepare_evaluator(ctx: Context, name: str, network: str, ipc: int | None) -> Bound[Evaluator]:
    """Resolve an evaluator, the network under test and the options, without running anything.

    Raises:
        UsageError: an unknown name or option.
    """
    check_seed(ctx.base_seed)
    entry = ctx.plugins.get("evaluator", name)
    evaluator: Evaluator = load_plugin(entry)
    repeats = evaluator.default_repeats
    if not isinstance(repeats, int) or repeats < 1:
        raise PluginError(f"Evaluator {name} has default_repeats={repeats!r}, which is no number of networks.")
    if evaluator.needs_network:
        with plugin_errors(entry):
            network = network or evaluator.network_for(ctx.dataset, ctx.preset.scale)
        if not network:
            raise UsageError(f"Evaluator {name} has no network of its own.", hint="Name one with --network.")
        ctx.plugins.get("network", network)
    else:
        network = NO_NETWORK
    if ctx.dataset.zca:
        check_whitens(evaluator, name, f"Images are to be whitened (data.zca={ctx.dataset.zca})")
    mine = replace(ctx, ipc=ipc, network=network, ledger=[])
    return Bound(evaluator, mine.with_options_of(evaluator, entry), entry)


def check_whitens(evaluator: Evaluator, name: str, what: str) -> None:
    """Refuse whitened images under an evaluator that tests on others."""
    if not evaluator.whitens:
        raise UsageError(f"{what}, but evaluator {name} tests on others.", hint="--eval dc and krr whiten both.")


@contextlib.contextmanager
def untouched(dataset: Dataset, who: str, distilled: DistilledSet | None = None) -> Iterator[None]:
    """Refuse what a plugin makes while it changes the data that every other one gets, too.

    Raises:
        PluginError: labels or images in memory are not what they were; nothing more can be done in this process.
    """

    def sums() -> list[int]:
        parts = () if distilled is None else (distilled.images, distilled.labels, distilled.soft_labels)
        own = [zlib.crc32(np.ascontiguousarray(part).data) for part in parts if part is not None]
        return [*dataset.checksum(), *(own if distilled is None or not distilled.whole else [])]

    before = sums()
    yield
    if sums() != before:
        raise PluginError(
            f"{who} changed images or labels in place, which every plugin is given.",
            hint="Let it copy them first (array.copy()); other results of this process cannot be relied on.",
        )


def check_named(bound: Bound[Any]) -> None:
    """Refuse networks that the user chose by an option and that cannot take the data set's images.

    Those of presets fit. A name with a tag (``timm:resnet18.tv_in1k``) is of published weights, which the plugin knows.

    Raises:
        UsageError: as of :func:`check_network`.
    """
    _, ctx, entry = bound
    for option, kind, name in named(ctx.resolved.values):
        if kind != "network":
            check_named(ctx.use(kind, name))
        elif option in ctx.resolved.explicit and not tagged(name):
            try:
                check_network(replace(ctx, network=name))
            except UsageError as error:
                who = f"{entry.spec.kind}/{entry.spec.name}"
                raise UsageError(f"{who}: {option}: {error}", hint=error.hint) from None


def check_network(ctx: Context) -> None:
    """Refuse a network that cannot take the data set's images, before any work is done for it.

    A network that has passed once is not built again, so that a finished run need not import torch.

    Raises:
        UsageError: it cannot be built for them, or fails on them.
    """
    if ctx.network == NO_NETWORK:
        return
    entry, data = ctx.plugins.get("network", ctx.network), ctx.dataset

    def build(step: Step) -> None:
        import torch

        with plugin_errors(entry):
            network = ctx.build_network(seed=0).eval()
            try:
                with torch.no_grad():
                    network(torch.zeros(2, data.channels, data.image_size, data.image_size))
            except (RuntimeError, ValueError, AssertionError) as error:
                raise unfit_network(data, ctx.network, error) from error
        step.info.update(parameters=sum(p.numel() for p in network.parameters() if p.requires_grad))

    images = [data.image_size, data.channels, data.num_classes]
    inputs = {"network": dependencies.network(ctx), "images": images}
    ctx.store.build("network", inputs, build)


def evaluate(bound: Bound[Evaluator], made: Distilled, *, repeats: int, force: bool = False) -> Record:
    """Train and test ``repeats`` networks on a distilled set.

    Every repeat is a cached step of its own, so that more repeats extend a record.
    """
    evaluator, ctx, entry = bound
    if (factor := made.content.factor) > 1 and not evaluator.decodes(ctx):
        ctx.reporter.warn(
            f"Each image of {made.plugin.name} holds {factor} × {factor} others, and {entry.spec.name} trains on it as"
            " it is stored; docs/methods/idc.md names the evaluators that decode it."
        )
    plugin, protocol = plugin_part(ctx, entry), _protocol(bound, made)
    shared = {used["key"] for used in (*made.steps, *ctx.ledger)}  # distillation, teachers that the protocol names
    groups = _groups(bound, made, protocol, repeats, force)
    students = [
        train_student(bound, made, protocol, repeat, force, groups.get(repeat, ())) for repeat in range(repeats)
    ]
    inner = {used["key"]: used for student in students for used in student.info.get("steps", ())}
    own = [*(student.cost() for student in students), *(used for key, used in inner.items() if key not in shared)]
    record = _record(ctx, plugin, made, protocol, students, sum(step["seconds"] for step in own))
    if wrong := flaws(record):  # what is written must verify
        raise PluginError(
            f"The result of {made.plugin.name} under {plugin.name} contradicts itself: {'; '.join(wrong)}.",
            hint="What of it is a method's and what an evaluator's is in docs/plugins/index.md.",
        )
    if telling(record) and len(set(record.result.correct)) < len(students):
        ctx.reporter.warn(
            f"{plugin.name} gave networks that are right on exactly the same test images: they count once."
        )
    return record


def train_ahead(bound: Bound[Evaluator], made: Distilled, repeats: int) -> bool:
    """Train the last network that is missing; return whether there was one that nobody else trains."""
    if repeats_at_once(bound.ctx.machine.device) != 1:
        return False  # whoever has the first may train all
    protocol, store = _protocol(bound, made), bound.ctx.store
    for repeat in reversed(range(repeats)):
        inputs = bound.ctx.depends(dependencies.student(*bound, made.content, made.digest, protocol, repeat))
        if store.get("student", inputs) is None:
            with contextlib.suppress(StepTaken):
                train_student(bound, made, protocol, repeat)
                return True
    return False


def _protocol(bound: Bound[Evaluator], made: Distilled) -> Protocol:
    evaluator, ctx, entry = bound
    check_fit(bound, made.plugin.name, made.content.holds)
    check_whitening(evaluator, ctx, made.content, entry.spec.name)
    with plugin_errors(entry):
        protocol = evaluator.protocol(at_work(bound, made.content, 0), made.content)
        if not isinstance(protocol, Protocol):
            raise PluginError(
                f"Evaluator {entry.spec.name} returned {protocol!r} as its protocol, not a ddbench.Protocol."
            )
        protocol.check(entry.spec.name, ctx.network)
    return protocol


#: What an evaluator may need of a set, or have to know, beside the kinds of its soft labels.
HOLDABLE = (*CONTENTS, "soft_labels", "tiles")
#: Which evaluators take soft labels that are no probabilities.
LABEL_HINTS = {
    "centred": "They are targets of a regression, not probabilities: --eval krr, kip-nn, rfad-nn and frepo take them.",
    "free": "They are real numbers of their own meaning: --eval replay takes them, with the steps of their set.",
}


def held(bound: Bound[Distiller]) -> frozenset[str] | None:
    """Return what sets of a method will hold, as it tells; None where it does not.

    Raises:
        PluginError: it tells of what no set can hold.
    """
    method, ctx, entry = bound
    with plugin_errors(entry):
        told = method.holds(ctx)
        if told is None:
            return frozenset() if entry.owner.origin == "built-in" else None
        names = [told] if isinstance(told, str) else list(told)
    if odd := [name for name in names if name.partition(":")[0] not in (*HOLDABLE, *LABEL_KINDS)]:
        known = ", ".join([*HOLDABLE, *LABEL_KINDS[1:]])
        raise PluginError(f"Method {entry.name} tells of its sets that they hold {odd[0]!r}.", hint=f"Known: {known}.")
    return frozenset(names) - {LABEL_KINDS[0]}


class _Anything(frozenset[str]):
    """What a set may hold of which nothing is known: everything."""

    def __contains__(self, name: object) -> bool:
        return True


def check_fit(bound: Bound[Evaluator], method: str, holds: Collection[str] | None) -> None:
    """Refuse an evaluator for sets of a method by what they hold, or will hold; None where that is not known.

    Raises:
        UsageError: they do not fit.
    """
    evaluator, ctx, entry = bound
    for kind in LABEL_KINDS:
        if holds is not None and kind in holds and kind not in evaluator.label_kinds:
            raise UsageError(
                f"Evaluator {entry.spec.name} cannot train on the {kind} labels of {method}.",
                hint=LABEL_HINTS.get(kind, ""),
            )
    with plugin_errors(entry):
        evaluator.check(ctx, _Anything() if holds is None else holds)


def check_whitening(evaluator: Evaluator, ctx: Context, distilled: DistilledSet, name: str) -> None:
    """Refuse whitened images under an evaluator that tests on others, and two recipes at once.

    Raises:
        UsageError: they do not fit.
    """
    asked, made = ctx.dataset.zca, distilled.whitening and distilled.whitening.recipe
    if asked or made:
        what = f"The set is whitened (zca {made})" if made else f"Images are to be whitened (data.zca={asked})"
        check_whitens(evaluator, name, what)
    if asked and made and asked != made:
        raise UsageError(f"The set is whitened by {made}, not by {asked} as data.zca says.", hint="Leave data.zca out.")


def _groups(
    bound: Bound[Evaluator], made: Distilled, protocol: Protocol, repeats: int, force: bool
) -> dict[int, Sequence[int]]:
    """Return with which others each missing network is trained at once, if with any."""
    evaluator, ctx, entry = bound
    most, store = repeats_at_once(ctx.machine.device), ctx.store
    if most == 1:
        return {}
    known = (store.get(STUDENT, _student(bound, made, protocol, repeat)) for repeat in range(repeats))
    missing = [repeat for repeat, done in enumerate(known) if force or done is None]
    if len(missing) < 2:
        return {}
    with plugin_errors(entry):
        count = max(1, evaluator.at_once(at_work(bound, made.content, missing[0]), made.content, most))
    return {
        repeat: missing[first : first + count]
        for first in range(0, len(missing), count)
        for repeat in missing[first : first + count]
    }


def _student(bound: Bound[Evaluator], made: Distilled, protocol: Protocol, repeat: int) -> dict[str, Any]:
    return bound.ctx.depends(dependencies.student(*bound, made.content, made.digest, protocol, repeat))


def train_student(
    bound: Bound[Evaluator],
    made: Distilled,
    protocol: Protocol,
    repeat: int,
    force: bool = False,
    group: Sequence[int] = (),
) -> Done:
    """Train and test one network, or all of a group it belongs to at once, or reuse it where finished."""
    _, ctx, entry = bound

    def build(step: Step) -> None:
        before = len(ctx.ledger)
        if len(group) > 1:
            together = {"students": [_student(bound, made, protocol, each) for each in group]}
            again = force and repeat == group[0]
            found = cached(ctx, "students", together, partial(_train, bound, made, group), force=again)
            step.info.update(found.info["students"][group.index(repeat)], at_once=len(group))
        else:
            _train(bound, made, [repeat], step)
            step.info.update(step.info.pop("students")[0])
        step.info["steps"] = ctx.ledger[before:]

    inputs = _student(bound, made, protocol, repeat)
    grows = None if len(group) > 1 else student_effort(entry.spec.name, protocol, made.content, ctx.dataset)
    done = cached(ctx, STUDENT, inputs, build, force=force, effort=grows)
    # What it was made from belongs to the costs also when the student itself is reused.
    known = {entry["key"] for entry in ctx.ledger}
    ctx.ledger.extend(used for used in done.info.get("steps", ()) if used["key"] not in known)
    return done


def _train(bound: Bound[Evaluator], made: Distilled, repeats: Sequence[int], step: Step) -> None:
    """Train and test networks, and note of each what came out."""
    evaluator, ctx, entry = bound
    name, content = entry.spec.name, made.content
    with plugin_errors(entry), untouched(ctx.dataset, f"Evaluator {name} of {entry.owner}", content):
        mine = at_work(bound, content, repeats[0], checkpoint=step)
        if len(repeats) == 1:
            scores: Sequence[Any] = [evaluator.evaluate(mine, content, repeats[0])]
        else:
            scores = evaluator.evaluate_together(mine, content, repeats)
        for score in scores:
            if not isinstance(score, Score):
                raise PluginError(f"Evaluator {name} returned {type(score).__name__}, not a ddbench.Score.")
            score.check(ctx.dataset, name)
    step.info["students"] = [
        {
            "last": float(score.last),
            "best": None if score.best is None else float(score.best),
            "curve": [[int(epoch), float(value)] for epoch, value in score.curve],
            "metrics": {key: float(value) for key, value in score.metrics.items()},
            "correct": pack_bits(np.asarray(score.correct, np.bool_)),
        }
        for score in scores
    ]


#: Settings of a protocol that change what a student costs in no other way than by the number of epochs, or not at all.
FREE = ("epochs", "lr", "weight_decay", "temperature", "schedule", "teacher")


def student_effort(evaluator: str, protocol: Protocol, distilled: DistilledSet, dataset: Dataset) -> Effort | None:
    """Return what a student's time grows with: passes of images through networks; None without ``epochs``."""
    settings = protocol.settings
    epochs, teacher = settings.get("epochs"), settings.get("teacher")
    if not isinstance(epochs, int):
        return None
    passes = 3 + (settings["label_type"] == "soft")  # forwards, and backwards twice as much; a teacher's forwards
    alike = {name: value for name, value in settings.items() if name not in FREE}
    about = {"evaluator": evaluator, "teacher": teacher.get("network") if isinstance(teacher, Mapping) else None}
    facts = [dataset.image_size, dataset.channels, dataset.num_classes]
    amount = passes * epochs * len(distilled.labels) + len(dataset.test)
    return Effort(amount, {**about, "settings": alike, "data": facts})


def _record(
    ctx: Context,
    plugin: PluginPart,
    made: Distilled,
    protocol: Protocol,
    students: Sequence[Done],
    seconds: float,
) -> Record:
    cell = dependencies.cell(ctx, made.plugin, plugin, ipc=made.ipc, seed=made.seed)
    settings = json.loads(json.dumps(dict(protocol.settings)))
    selection = settings.get("selection", "last")
    infos = [student.info for student in students]
    values = [i["best"] if selection != "last" and i["best"] is not None else i["last"] for i in infos]
    result = Result(
        selection=selection,
        values=values,
        last=[i["last"] for i in infos],
        best=[i["best"] for i in infos],
        curves=[[(e, v) for e, v in i["curve"]] for i in infos],
        metrics=[i["metrics"] for i in infos],
        test_images=len(ctx.dataset.test),
        correct=[i["correct"] for i in infos],
    )
    kept = DistilledPart(
        key=made.key[:20],
        digest=made.digest,
        count=len(made.content.labels),
        shape=list(made.content.images.shape),
        space=made.content.space,
        whole=made.content.whole,
        extra={**made.content.extra, **made.content.besides()},
    )
    protocol_part = ProtocolPart(settings=settings, extension=protocol.extension, digest=protocol.digest)
    shrunk = [*made.shrunk, *_shrunk("eval", ctx), *_changed_data(ctx)]
    steps = [*made.steps, *(entry for entry in ctx.ledger if entry["key"] not in {s["key"] for s in made.steps})]
    peaks = [value for entry in steps for name, value in entry.items() if name.startswith("peak_")]
    costs = Costs(
        steps=steps,
        distill_seconds=None if made.seconds is None else round(made.seconds, 3),
        evaluate_seconds=round(seconds, 3),
        peak_bytes=max(peaks, default=None),
        bytes_images=made.bytes["images"],
        bytes_labels=made.bytes["labels"] + sum(entry.get("bytes_labels", 0) for entry in steps),
    )
    return Record(
        key=record_key(cell, ctx.machine.numerics()),
        digest=result_digest(cell, protocol_part, kept, result, shrunk),
        cell=cell,
        protocol=protocol_part,
        distilled=kept,
        result=result,
        shrunk=shrunk,
        costs=costs,
        environment={
            **environment.describe(),
            **ctx.machine.numerics(),
            **({"repeats_at_once": at_once} if (at_once := max(i.get("at_once", 1) for i in infos)) > 1 else {}),
            **({"origin": made.origin} if made.origin else {}),
        },
    )


def _shrunk(scope: str, ctx: Context) -> tuple[tuple[str, Any, Any], ...]:
    """What differs from the paper's scale, by scope and option, without folders of this machine."""
    return tuple(
        (f"{scope}.{name}", paper, by_content(ctx, {name: used})[name]) for name, paper, used in ctx.resolved.shrunk
    )


def _changed_data(ctx: Context) -> tuple[tuple[str, Any, Any], ...]:
    """What a run at the paper's scale changed of its data; at the cpu scale, their size in the cell says it."""
    entry = ctx.plugins.entries["dataset"].get(ctx.dataset.name)
    if entry is None or ctx.preset.scale != "paper":
        return ()
    loading = replace(ctx, _dataset=None, ipc=None, network="", method="")
    return _shrunk("data", loading.with_options_of(load_plugin(entry), entry))
