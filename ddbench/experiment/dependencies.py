"""What results depend on: from a resolved run to the inputs of its keys, for artifacts and for records.

Everything that can change a result is here by content: options, the files and folders that options name, versions of
plugins (of plugin files, their source), and, by :meth:`ddbench.Context.depends`, the data set and the machine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ddbench.keys import canonical, digest
from ddbench.plugin.contracts import DistilledSet, Protocol
from ddbench.plugin.manager import Entry, load_plugin, plugin_errors
from ddbench.results.schema import Cell, PluginPart
from ddbench.runtime.contents import NAMED, by_content, check_identity, code, uses
from ddbench.runtime.context import Context
from ddbench.runtime.steps import steps_of

if TYPE_CHECKING:
    from ddbench.plugin.interfaces import Plugin


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
        "steps": steps(evaluator, ctx, entry, distilled, repeat),
        "protocol": protocol.digest,
        "network": network(ctx),
        "ipc": ctx.ipc,
        "others": other_options(ctx),
        "seed": ctx.base_seed,
        "repeat": repeat,
        # The network that a set's own steps train is named by the set, not by an option.
        **({"replayed": uses(ctx, [{"network": distilled.schedule.network}])} if distilled.schedule else {}),
    }


def network(ctx: Context) -> dict[str, Any]:
    """Return which network is under test: its name, its builder's version and fixed settings."""
    known = ctx.plugins.entries["network"]
    if ctx.network not in known and ctx.network.partition(":")[0] + ":" not in known:
        return {"name": ctx.network}  # of an evaluator that trains none
    entry = ctx.plugins.get("network", ctx.network)
    return {
        "name": ctx.network,
        **code(entry),
        "settings": [list(pair) for pair in getattr(entry.spec, "settings", ())],
    }


def plugin_part(ctx: Context, entry: Entry) -> PluginPart:
    """Return a plugin as it goes into records: nothing of where files lie on this machine, but what is in them."""
    return PluginPart(
        name=entry.spec.name,
        version=entry.spec.cache_version,
        options=by_content(ctx, ctx.resolved.counted()),
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

    Of the data set only those that differ from its defaults; what follows from them is often, but
    not always, in the facts of the data set (whether mirrored images keep their label is not).
    """
    options = {
        scope: by_content(ctx, values, all_files=True)
        for scope, values in ctx.explicit.items()
        if values and scope.partition("/")[0] in NAMED
    }
    # A set that is read from a folder brings its recipe with it.
    if changed := _data_options(ctx) | ({"zca": ctx.dataset.zca} if ctx.dataset.zca else {}):
        options["dataset"] = changed
    return options


def steps(plugin: Plugin, ctx: Context, entry: Entry, *more: Any) -> list[list[str]]:
    """Return the names and keys of the steps that a plugin asks for: they tell of what its code depends on."""
    with plugin_errors(entry):
        return [[call.name, call.key] for call in steps_of(plugin, ctx, *more)]


def _plugin(plugin: Plugin, ctx: Context, entry: Entry) -> dict[str, Any]:
    with plugin_errors(entry):
        identity = dict(plugin.identity(ctx))
        check_identity(f"{entry.spec.kind.capitalize()} {entry.spec.name}", identity)
    options = by_content(ctx, ctx.resolved.counted())
    return {
        "name": entry.spec.name,
        **code(entry),
        "options": options,
        "identity": identity,
        "uses": uses(ctx, [options, *ctx.explicit.values()]),
    }


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
    chosen, usual = (ctx.with_options_of(loader, entry).resolved for ctx in (loading, plain))
    used = by_content(replace(ctx, resolved=chosen), chosen.dump())
    without = usual.dump()
    return {key: value for key, value in used.items() if canonical(value) != canonical(without[key])}
