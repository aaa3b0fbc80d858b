"""What results depend on: from a resolved run to the inputs of its keys, for artifacts and for records.

Everything that can change a result is here by content: options, the files and folders that options name, versions of
plugins (of plugin files, their source), and, by :meth:`ddbench.Context.depends`, the data set and the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench.errors import PluginError
from ddbench.keys import canonical, digest
from ddbench.plugin.contracts import PLAIN, DistilledSet, Protocol, not_plain
from ddbench.plugin.manager import Entry, load_plugin, plugin_errors
from ddbench.plugin.options import FILE, Options, marker
from ddbench.results.schema import Cell, PluginPart
from ddbench.runtime.context import Context

if TYPE_CHECKING:
    from ddbench.plugin.interfaces import Plugin

#: Kinds of plugins that options name.
NAMED = ("network", "captioner")
#: Hexadecimal digits of a file's digest in a record: enough to tell any two apart.
SHOWN = 16


def artifact(method: Plugin, ctx: Context, entry: Entry, file_format: int) -> dict[str, Any]:
    """Return what a distilled set depends on besides the data set and the machine.

    Raises:
        PluginError: the method's identity is no plain data.
    """
    return {
        "method": _plugin(method, ctx, entry),
        "ipc": ctx.ipc,
        "seed": ctx.base_seed,
        "others": other_options(ctx),
        "format": file_format,
    }


def student(
    evaluator: Plugin,
    ctx: Context,
    entry: Entry,
    distilled: DistilledSet,
    digest_: str,
    protocol: Protocol,
    repeat: int,
) -> dict[str, Any]:
    """Return what a student's accuracy depends on besides the data set and the machine.

    Raises:
        PluginError: the evaluator's identity is no plain data.
    """
    about = [list(distilled.prompts or ()), list(distilled.source_ids or ()), dict(distilled.extra)]
    return {
        "distilled": digest_,
        "about": digest(about),
        "method": ctx.method,
        "evaluator": _plugin(evaluator, ctx, entry),
        "protocol": protocol.digest,
        "network": network(ctx),
        "ipc": ctx.ipc,
        "others": other_options(ctx),
        "seed": ctx.base_seed,
        "repeat": repeat,
    }


def network(ctx: Context) -> dict[str, Any]:
    """Return which network is under test: its name, its builder's version and fixed settings."""
    known = ctx.plugins.entries["network"]
    if ctx.network not in known and ctx.network.partition(":")[0] + ":" not in known:
        return {"name": ctx.network}  # of an evaluator that trains none
    entry = ctx.plugins.get("network", ctx.network)
    return {
        "name": ctx.network,
        **_code(entry),
        "settings": [list(pair) for pair in getattr(entry.spec, "settings", ())],
    }


def plugin_part(ctx: Context, entry: Entry) -> PluginPart:
    """Return a plugin as it goes into records: nothing of where files lie on this machine, but what is in them."""
    return PluginPart(
        name=entry.spec.name,
        version=entry.spec.cache_version,
        options=by_content(ctx, ctx.resolved.dump()),
        explicit=by_content(ctx, ctx.resolved.explicit),
    )


def cell(ctx: Context, method: PluginPart, evaluator: PluginPart, *, ipc: int | None, seed: int) -> Cell:
    """Return what is asked for: ``ctx`` is the evaluator's, ``ipc`` and ``seed`` are the distilled set's."""
    return Cell(
        dataset=ctx.dataset.describe(),
        method=method,
        ipc=ipc,
        seed=seed,
        evaluator=evaluator,
        network=ctx.network,
        evaluation_seed=ctx.base_seed,
        preset=str(ctx.preset),
        other_options=other_options(ctx),
    )


def other_options(ctx: Context) -> dict[str, dict[str, Any]]:
    """Return options that are neither the method's nor the evaluator's: captioners', networks', the data set's.

    Of the data set only those that differ from what it has without being told; what follows from them is often, but
    not always, in the facts of the data set (whether mirrored images keep their label is not).
    """
    found = {
        scope: by_content(ctx, values, all_files=True)
        for scope, values in ctx.explicit.items()
        if values and scope.partition("/")[0] in NAMED
    }
    if changed := _data_options(ctx):
        found["dataset"] = changed
    return found


def by_content(ctx: Context, options: Mapping[str, Any], *, all_files: bool = False) -> dict[str, Any]:
    """Return options with every file or folder named by its last part and its content.

    Args:
        ctx: with the resolved options, whose fields say which of them name files.
        options: option → value.
        all_files: take every text that names an existing file or folder for one.
    """
    model = type(ctx.resolved.values) if ctx.resolved.values is not None else Options
    return {name: _told(ctx, value, marker(model, name, FILE), all_files) for name, value in options.items()}


def _told(ctx: Context, value: Any, marked: Any, all_files: bool) -> Any:
    if isinstance(value, (list, tuple)):
        return [_told(ctx, item, marked, all_files) for item in value]
    if not isinstance(value, str) or (isinstance(marked, (list, tuple)) and value in marked):
        return value
    path = Path(value).expanduser()
    likely = bool(marked) or all_files or path.is_absolute() or "/" in value or "\\" in value or bool(path.suffix)
    try:
        there = likely and bool(value) and path.exists()
    except (OSError, ValueError):  # too long for a path, or holding a NUL
        return value
    if there:
        return f"{path.resolve().name}@{ctx.content_digest(path)[:SHOWN]}"
    return path.name if path.is_absolute() else value


def _plugin(plugin: Plugin, ctx: Context, entry: Entry) -> dict[str, Any]:
    with plugin_errors(entry):
        identity = dict(plugin.identity(ctx))
    if mistake := not_plain(identity):
        kind = entry.spec.kind.capitalize()
        raise PluginError(f"{kind} {entry.spec.name} has an identity that is not plain data: {mistake}.", hint=PLAIN)
    options = by_content(ctx, ctx.resolved.dump())
    return {
        "name": entry.spec.name,
        **_code(entry),
        "options": options,
        "identity": identity,
        "uses": _named_plugins(ctx, [options, *ctx.explicit.values()]),
    }


def _code(entry: Entry) -> dict[str, Any]:
    """Return the version of a plugin's code; of a plugin file, whose author works on it, also its content."""
    return {"version": entry.spec.cache_version, **({"source": entry.owner.source} if entry.owner.source else {})}


def _named_plugins(ctx: Context, options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the versions of the networks and captioners that options name."""
    found: dict[str, Any] = {}
    for values in options:
        for value in values.values():
            for name in value if isinstance(value, (list, tuple)) else (value,):
                for kind in NAMED:
                    known = ctx.plugins.entries[kind]
                    if isinstance(name, str) and (entry := known.get(name) or known.get(name.partition(":")[0] + ":")):
                        found[f"{kind}/{name}"] = _code(entry)
    return found


def _data_options(ctx: Context) -> dict[str, Any]:
    """Return the data set's options that the user set to something else than they would be."""
    if not any(values for scope, values in ctx.explicit.items() if scope.partition("/")[0] == "dataset"):
        return {}
    name = ctx.dataset.name
    known = ctx.plugins.entries["dataset"]
    entry = known.get(name) or known.get(name.partition(":")[0] + ":")
    if entry is None:
        return {}
    loading = replace(ctx, _dataset=None, ipc=None, network="", method="")
    plain = replace(loading, explicit={})
    loader = load_plugin(entry)
    chosen, usual = (each.with_options_of(loader, entry).resolved for each in (loading, plain))
    used = by_content(replace(ctx, resolved=chosen), chosen.dump())
    without = usual.dump()
    return {key: value for key, value in used.items() if canonical(value) != canonical(without[key])}
