"""`ddbench gallery`: distilled images side by side, and the small sheets that are published with records."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common, completion, embeddings
from ddbench.errors import UsageError
from ddbench.results import labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddbench.results.schema import Record
    from ddbench.sets.folder import LoadedSet


@click.command("gallery")
@click.argument(
    "what",
    nargs=-1,
    metavar="[FOLDER | RECORD | METHOD …]",
    shell_complete=completion.names("method", files=True),
)
@click.option("--registry", default=None, metavar="DIR", help="Draw the sets behind the records of a registry.")
@common.listed("-m", "--method", help="Only these methods of the registry.")
@click.option("--keep", is_flag=True, help="Store small sheets in REGISTRY/images, for the web page.")
@click.option("--out", default="gallery.png", show_default=True, metavar="FILE.png", help="The picture.")
@click.option("--per-class", type=click.IntRange(1), default=None, help="Images per class (10; 1 with --prompts).")
@click.option("--classes", type=click.IntRange(1), default=None, help="Classes at most (40; 10 with --prompts).")
@click.option("--prompts", is_flag=True, help="Show images with their text prototypes (one text-guided set).")
@click.option(
    "--members",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="With --prompts of a method: between image and text, N training images that the prototype stands for.",
)
@common.dataset_option
@common.ipc_option
@common.seed_option
@common.preset_option
@common.set_option
@common.plugin_option
@common.machine_options
def command(what: tuple[str, ...], **values: Any) -> None:
    """Draw the contact sheets of several distilled sets side by side, one row per class.

    Each argument is the folder of a distilled set, a record, or a method, which is distilled first if necessary. With
    --registry, the sets that its records were measured on: from this machine, or from the sheets stored beside them.

    \b
    Examples:
      ddbench gallery random herding vlcp --ipc 10
      ddbench gallery distilled/a distilled/b --out compare.png
      ddbench gallery vlcp --prompts --out prompts.png
      ddbench gallery vlcp --prompts --members 8 --classes 3
      ddbench gallery --registry registry -d cifar10 --method d4m,vlcp
      ddbench gallery --keep
    """
    if values["members"] is not None and not values["prompts"]:  # before anything is distilled
        raise UsageError("--members adds training images to --prompts.", hint="Give --prompts as well.")
    # Records are chosen by what the user gave, not by the defaults of distilling.
    filters = {name: values[name] for name in ("dataset", "method", "ipc", "seed") if _given(name)}
    if values["keep"]:
        if what:
            raise UsageError(
                "--keep takes its records from --registry.", hint="Choose with --method, --dataset, --ipc."
            )
        _keep(Path(values["registry"] or "registry"), filters)
        return
    names = [*what] if values["registry"] else [*what, *(values["method"] or [])]
    sets = _chosen(Path(values["registry"]), filters) if values["registry"] else []
    sets += [loaded for name in names for loaded in _sets(name, values)]
    if not sets:
        raise click.UsageError("Missing argument: what to draw (methods, records or folders, or a --registry).")
    _draw(_same_classes(sets), names, values)


def _given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _draw(sets: list[LoadedSet], names: list[str], values: dict[str, Any]) -> None:
    from PIL import Image

    from ddbench.figures import gallery
    from ddbench.files.writing import write_atomic

    contents = [loaded.distilled for loaded in sets]
    limits = {"per_class": values["per_class"], "max_classes": values["classes"]}
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    if values["prompts"]:
        if len(sets) > 1:
            raise UsageError("--prompts shows one distilled set at a time.")
        given |= {} if values["members"] is None else {"members": _members(sets[0], names, values)}
        picture = gallery.prompt_sheet(contents[0], sets[0].class_names, **given)
    else:
        picture = gallery.contact_sheet(contents, sets[0].class_names, _titles(sets), **given)
    out = Path(values["out"])
    buffer = io.BytesIO()
    form = Image.registered_extensions().get(out.suffix.lower())
    if form not in Image.SAVE:
        raise UsageError(f"{out.name!r} is not the name of a picture.", hint="End it in .png.")
    picture.save(buffer, form)
    write_atomic(out, buffer.getvalue())
    click.echo(str(out))


def _members(loaded: LoadedSet, names: list[str], values: dict[str, Any]) -> dict[int, list[NDArray[np.uint8]]]:
    """Return, by label, the training images of the cluster of each distilled image."""
    from ddbench.figures.gallery import spread
    from ddbench.sets.folder import FILE

    if not names or (Path(names[0]) / FILE).exists():
        raise UsageError(
            "--members needs a method and its data set.",
            hint="Name a method or a record; finished steps are reused.",
        )
    one = {name: (values[name] or [default])[0] for name, default in (("dataset", ""), ("ipc", 10), ("seed", 0))}
    prepared = embeddings.prepare(names[0], {**values, **one})
    shown = spread(len(loaded.class_names), values["classes"] or 10)
    side = loaded.distilled.images.shape[1]
    return {label: prepared.members(label, values["members"], side) for label in shown}


def _sets(name: str, values: dict[str, Any]) -> list[LoadedSet]:
    from ddbench import api
    from ddbench.sets.folder import FILE, load

    path = Path(name)
    if (path / FILE).exists():
        return [load(path)]
    if path.is_file() or name.endswith(".json"):
        from ddbench.results.registry import read_good

        return [_of_record(read_good(path), path.absolute().parents[3])]
    datasets = values["dataset"] or [""]
    if len(datasets) > 1:
        raise UsageError("A gallery shows one data set.", hint="Name just one with --dataset.")
    return api.distill(
        name,
        dataset=datasets[0],
        ipc=values["ipc"],
        seed=values["seed"] or (),
        **common.common_arguments(values),
    )


def _of_record(record: Record, registry: Path) -> LoadedSet:
    if drawn := _images(record, registry):
        return drawn
    raise _no_images(record.relative_path().name)


def _no_images(what: str) -> UsageError:
    hint = "Run the command stored in the record: it makes the same images."
    return UsageError(f"The images of {what} are not on this machine.", hint=hint)


def _images(record: Record, registry: Path) -> LoadedSet | None:
    """Return what a record was measured on: all its images where this machine has them, else what its sheet shows."""
    from ddbench.figures import sheets

    if loaded := sheets.stored(record):
        return loaded
    sheet = sheets.kept(registry, record.distilled.digest)
    return _shown(sheet, record) if sheet else None


def _shown(sheet: Any, record: Record) -> LoadedSet:
    from ddbench.figures import sheets
    from ddbench.sets.folder import LoadedSet

    content, names = sheets.as_set(sheet)
    cell = record.cell
    about = {"method": {"name": cell.method.name}, "ipc": cell.ipc, "seed": cell.seed, "sheet": True}
    return LoadedSet(content, names, names, about, Path())


def _same_classes(sets: list[LoadedSet]) -> list[LoadedSet]:
    """Bring whole sets to the classes that kept sheets show, where the two are mixed.

    Raises:
        UsageError: sets of different classes.
    """
    if any("sheet" in loaded.about for loaded in sets) and not all("sheet" in loaded.about for loaded in sets):
        from ddbench.figures import sheets

        small = []
        for loaded in sets:
            if "sheet" in loaded.about:
                small.append(loaded)
                continue
            content, names = sheets.as_set(sheets.make(loaded))
            small.append(replace(loaded, distilled=content, class_names=names, class_ids=names))
        sets = small
    for other in sets[1:]:
        if other.class_ids != sets[0].class_ids:
            raise UsageError(
                "These distilled sets have different classes and cannot be drawn side by side.",
                hint="Draw them one by one, or choose one data set with --dataset.",
            )
    return sets


def _records(registry: Path, filters: dict[str, Any]) -> list[Record]:
    from ddbench.results.registry import load, no_records

    chosen = {name: wanted for name, wanted in filters.items() if wanted}
    good, problems = load(registry, **chosen)
    for problem in problems:
        click.echo(f"left out {problem}", err=True)
    records = [record for record in good if not record.distilled.whole]
    if not records:
        raise no_records(registry, chosen)
    return records


def _chosen(registry: Path, filters: dict[str, Any]) -> list[LoadedSet]:
    """Return one set per method, at the budget that most methods share, of the first seed, unless the user chose.

    Methods whose images are nowhere are named and left out.
    """
    records = _records(registry, filters)
    if len({record.cell.dataset["name"] for record in records}) > 1:
        raise UsageError("A gallery shows one data set.", hint="Name one with --dataset.")

    def label(record: Record) -> str:
        return labels.label(record.cell.method.name, record.cell.method.explicit)

    if "ipc" not in filters:
        shared = Counter(ipc for ipc, _ in {(record.cell.ipc or 0, label(record)) for record in records})
        best = max(shared, key=lambda ipc: (shared[ipc], ipc))
        records = [record for record in records if record.cell.ipc == best]
    order = {name: place for place, name in enumerate(filters.get("method") or [])}
    records.sort(key=lambda r: (order.get(r.cell.method.name, 0), label(r), r.cell.ipc or 0, r.cell.seed, r.key))
    sets: dict[tuple[Any, ...], LoadedSet] = {}
    used: list[Record] = []
    for record in records:
        place = (label(record), record.cell.ipc, record.cell.seed if "seed" in filters else 0)
        if place not in sets and (drawn := _images(record, registry)):
            sets[place] = drawn
            used.append(record)
    lacking = dict.fromkeys(map(label, records)).keys() - {name for name, *_ in sets}
    if not sets:
        raise _no_images(", ".join(sorted(lacking)))
    for name in sorted(lacking):
        click.echo(f"left out {name}: its images are not on this machine", err=True)
    alike = _shared([record.cell.method.explicit for record in used])
    if alike:
        settings = ", ".join(f"{name}={labels.value_text(value)}" for name, value in alike.items())
        click.echo(f"all with {settings}", err=True)
    return [
        replace(drawn, about={**drawn.about, "method": {"name": _named(record, alike)}})
        for drawn, record in zip(sets.values(), used, strict=True)
    ]


def _shared(options: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the options that all of several methods were given alike, which tell none from the others."""
    first, *others = options
    if not others:
        return {}
    return {name: value for name, value in first.items() if all(name in o and o[name] == value for o in others)}


def _named(record: Record, shared: dict[str, Any]) -> str:
    own = {name: value for name, value in record.cell.method.explicit.items() if name not in shared}
    return labels.label(record.cell.method.name, own)


def _keep(registry: Path, filters: dict[str, Any]) -> None:
    from ddbench.figures import sheets

    new = there = 0
    missing: list[str] = []
    seen: set[str] = set()
    for record in _records(registry, filters):
        digest = record.distilled.digest
        if digest in seen:
            continue
        seen.add(digest)
        if sheets.kept(registry, digest):
            there += 1
        elif loaded := sheets.stored(record):
            sheets.keep(sheets.make(loaded), registry)
            new += 1
        else:
            missing.append(record.relative_path().as_posix())
    click.echo(f"{registry / sheets.FOLDER}  {new} sheets stored, {there} were there")
    for path in missing:
        click.echo(f"the images of {path} are not on this machine", err=True)


def _titles(sets: list[LoadedSet]) -> list[str]:
    """Return the methods; with IPC and seed where these differ."""
    abouts = [loaded.about for loaded in sets]
    budgets = {about["ipc"] for about in abouts}
    seeds = {about["seed"] for about in abouts}
    titles = []
    for about in abouts:
        extra = [f"IPC {about['ipc']}"] * (len(budgets) > 1) + [f"seed {about['seed']}"] * (len(seeds) > 1)
        titles.append(" ".join([about["method"]["name"], *extra]))
    return titles
