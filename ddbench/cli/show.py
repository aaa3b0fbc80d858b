"""`ddbench show`: a plugin's options and citation, or what records and distilled sets say."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common, completion
from ddbench.errors import DataError, UsageError
from ddbench.experiment import setup
from ddbench.plugin.specs import KINDS

#: What decides the options of a kind of plugin, where that is not all of data set, IPC, network and preset.
DECIDED_BY: Mapping[str, tuple[str, ...]] = {"dataset": ("preset",), "executor": ()}

if TYPE_CHECKING:
    from ddbench.plugin.manager import Entry
    from ddbench.results.schema import Record
    from ddbench.runtime.context import Context
    from ddbench.sets.folder import LoadedSet


@click.command("show")
@click.argument(
    "what",
    nargs=-1,
    required=True,
    metavar="NAME | RECORD [RECORD]",
    shell_complete=completion.names(*KINDS, files=True),
)
@common.one_dataset("Resolve the options for this data set.")
@click.option("--ipc", type=click.IntRange(1), default=10, show_default=True, help="… for this budget.")
@click.option(
    "-n",
    "--network",
    default="",
    metavar="NAME",
    shell_complete=completion.names("network"),
    help="… and for this network under test.",
)
@common.preset_option
@common.set_option
@common.plugin_option
@common.json_option
def command(what: tuple[str, ...], **values: Any) -> None:
    """Show a plugin with its resolved options and their origin; or a record; or the difference of two records.

    A name that several kinds share shows them all; evaluator/rded is one of them.

    \b
    Examples:
      ddbench show vlcp
      ddbench show evaluator/rded --dataset imagenette --ipc 10 --preset paper
      ddbench show registry/results/digits/vlcp/ipc10-*.json
      ddbench show RECORD RECORD          how they differ, protocol first
      ddbench show FOLDER                 a distilled set
    """
    if any(_is_path(name) for name in what):
        _show_files(what)
        return
    ctx = _context(values)
    entries = [entry for name in what for entry in ctx.plugins.find(name)]
    facts = [{**entry.to_dict(), **_described(ctx, entry, values["dataset"])} for entry in entries]
    common.give(lambda: {"plugins": facts})
    click.echo("\n\n".join("\n".join(_plugin(entry, known)) for entry, known in zip(entries, facts, strict=True)))


def _show_files(what: tuple[str, ...]) -> None:
    """Show records and distilled sets; of two records, how they differ."""
    from ddbench.results.collection import Records
    from ddbench.tables import describe

    looked_up = [(name, _record(name)) for name in what]
    records = Records(record for _, record in looked_up if record is not None)
    sets = [_load(name) for name, record in looked_up if record is None]
    known: dict[str, Any] = {
        "records": records.to_dicts(),
        "sets": [{**one.about, "path": str(one.path)} for one in sets],
    }
    if len(what) == 2 and len(records) == 2:
        lines = describe.difference(*records)
        known |= {"obstacles": describe.obstacles(*records), "differences": describe.differences(*records)}
    else:
        lines = [line for record in records for line in [*describe.summary(record), ""]]
        lines += [line for loaded in sets for line in _set(loaded)]
    common.give(lambda: known)
    click.echo("\n".join(lines).rstrip())


def _plugin(entry: Entry, known: dict[str, Any]) -> list[str]:
    """Return in words what there is to know about one plugin."""
    spec = entry.spec
    lines = [click.style(f"{spec.kind} {entry.name}", bold=True), f"  {spec.summary}"]
    in_keys = spec.kind != "executor"  # where something runs decides no result
    lines.append(f"  from {entry.owner}" + f", cache version {spec.cache_version}" * in_keys)
    if spec.paper:
        lines.append(f"  paper: {spec.paper}")
    if settings := ", ".join(f"{key}={value}" for key, value in known.get("settings", {}).items()):
        lines.append(f"  settings: {settings}")
    if "options" in known:
        lines += _options(known)
    elif "settings" not in known:
        lines.append("  no options")
    if spec.bibtex:
        lines.append("")
        for line in spec.bibtex.splitlines():  # kept as lines, to be copied
            lines += textwrap.wrap(line, _width(), subsequent_indent="    ", break_long_words=False)
    return lines


def _options(known: dict[str, Any]) -> list[str]:
    from ddbench.results.labels import value_text

    lines = [f"  note: {note}" for note in known["notes"]]
    where = ", ".join(f"{name} {value}" for name, value in known["for"].items())
    lines.append(f"  options for {where}:" if where else "  options:")
    for option in known["options"]:
        origin = "set by you" if option["source"] == "explicit" else option["source"]
        lines.append(
            f"  {click.style(option['name'], bold=True)} = {value_text(option['value']) or '(empty)'}  ({origin})"
        )
        details = [option["type"]]
        if option["source"] != "default":
            details.append(f"default {value_text(option['default']) or '(empty)'}")
        if "paper" in option:
            details.append(f"at paper scale {value_text(option['paper'])}")
        text = f"{option['description'] or 'no description'} [{', '.join(details)}]"
        lines += textwrap.wrap(text, _width(), initial_indent=" " * 6, subsequent_indent=" " * 6)
    if known["experiment"]:
        lines.append("  experiment, where the command leaves it open:")
    for name, given in known["experiment"].items():
        lines.append(f"  {click.style(f'--{name}', bold=True)} {_words(given['value'])}  ({given['source']})")
    return lines


def _described(ctx: Context, entry: Entry, dataset: str) -> dict[str, Any]:
    """Return as data what a plugin can be told: the fixed settings of a network, or options with their sources."""
    from ddbench.plugin.manager import load_plugin
    from ddbench.plugin.options import resolve

    if entry.spec.kind == "network":
        return {"settings": dict(getattr(entry.spec, "settings", ()))}
    plugin = load_plugin(entry)
    model = getattr(plugin, "Options", None)
    if model is None:
        return {}
    notes: list[str] = []
    if dataset:
        ctx, notes = _with_dataset(ctx, dataset)
        if entry.spec.kind == "evaluator" and not ctx.network and not notes:
            ctx = replace(ctx, network=plugin.network_for(ctx.dataset, ctx.preset.scale))
    scopes = (entry.spec.kind, entry.spec.name.rstrip(":"), f"{entry.spec.kind}/{entry.spec.name.rstrip(':')}")
    chosen = {key: value for scope in scopes for key, value in ctx.explicit.get(scope, {}).items()}
    # The name alone decides most presets, so it counts even where the data itself is not there.
    facts = ctx.match_context() | ({"dataset": dataset} if dataset else {})
    resolved = resolve(type(plugin), f"{entry.spec.kind}/{entry.name}", facts, ctx.preset, chosen)
    paper = {name: {"paper": value} for name, value, _ in resolved.shrunk}
    places = {"data set": dataset, "IPC": ctx.ipc, "network": ctx.network, "preset": str(ctx.preset)}
    defaults = model.model_construct().model_dump(mode="json")
    return {
        "for": {name: places[name] for name in DECIDED_BY.get(entry.spec.kind, places) if places[name]},
        "notes": notes,
        "options": [
            {
                **{"name": name, "value": value, "source": resolved.sources[name], "default": defaults[name]},
                "type": _type_text(model.model_fields[name].annotation),
                "description": model.model_fields[name].description or "",
                **paper.get(name, {}),
            }
            for name, value in resolved.dump().items()
        ],
        "experiment": {
            name: {"value": value, "source": origin} for name, (value, origin) in resolved.experiment.items()
        },
    }


def _words(value: Any) -> str:
    """Write a value as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _with_dataset(ctx: Context, name: str) -> tuple[Context, list[str]]:
    """Put the data set into the context, or say which rules could not be asked without it."""
    from ddbench.experiment.pipeline import load_dataset

    try:
        return replace(ctx, _dataset=load_dataset(ctx, name)), []
    except DataError:
        why = f"{name} could not be read here (`ddbench data check {name}` shows why)"
        return ctx, [f"{why}: presets that ask for its size or number of classes are not applied."]


def _context(values: dict[str, Any]) -> Context:
    from ddbench.runtime.progress import QuietReporter

    options = common.parse_options(values["options"], values)
    # Showing downloads nothing.
    ctx = setup.context(
        values["plugins"], values["preset"], options, "cpu", "fp32", offline=True, reporter=QuietReporter()
    )
    return replace(ctx, ipc=values["ipc"], network=values["network"])


def _is_path(name: str) -> bool:
    """Tell a path from a name: a folder that happens to be called as a plugin is none unless it is a distilled set."""
    from ddbench.sets.folder import FILE

    path = Path(name)
    return name.endswith(".json") or (path / FILE).is_file() or ("/" in name and path.exists())


def _record(name: str) -> Record | None:
    """Read a record; None for the folder of a distilled set."""
    from ddbench.results.registry import read_good
    from ddbench.sets.folder import FILE

    path = Path(name)
    if path.is_dir() and (path / FILE).exists():
        return None
    if not path.is_file():
        raise UsageError(f"{name!r} is neither a record nor a distilled set.", hint="Give only files, or only names.")
    return read_good(path)


def _load(name: str) -> LoadedSet:
    from ddbench.sets.folder import load

    return load(Path(name))


def _set(loaded: LoadedSet) -> list[str]:
    from ddbench.sets.folder import besides

    about = loaded.about
    budget = "full" if about["ipc"] is None else about["ipc"]
    lines = [
        f"distilled set of {about['dataset']['name']} by {about['method']['name']}, IPC {budget}, seed {about['seed']}",
        f"  {len(loaded.labels)} images {about['shape'][1:]} in {about['space']}",
        f"  digest {about['digest'][:16]} (content matches)",
        f"  {about['bytes']['images']:,} bytes of images, {about['bytes']['labels']:,} of labels",
        f"  classes: {', '.join(loaded.class_names)}",
        *(f"  {line}" for line in besides(loaded.distilled)),
    ]
    if loaded.prompts:
        lines += [f"  first prompt: {loaded.prompts[0]}"]
    return lines


def _type_text(annotation: Any) -> str:
    """Write a type as a user reads it: ``float or none``, ``last | best_test``."""
    from types import NoneType, UnionType
    from typing import Literal, Union, get_args, get_origin

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join("none" if part is NoneType else _type_text(part) for part in arguments)
    if origin in (list, tuple):
        inner = [_type_text(part) for part in arguments if part is not Ellipsis]
        return f"list of {', '.join(dict.fromkeys(inner))}"
    return {"int": "whole number", "float": "number", "str": "text", "bool": "true | false"}.get(
        getattr(annotation, "__name__", str(annotation)), getattr(annotation, "__name__", str(annotation))
    )


def _width() -> int:
    return max(60, min(120, shutil.get_terminal_size().columns - 1))
