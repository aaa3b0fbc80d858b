"""The context of a command: plugins, machine, preset, options by scope, data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddbench.errors import UsageError, did_you_mean, unknown
from ddbench.experiment.pipeline import load_dataset
from ddbench.plugin import arguments
from ddbench.plugin.arguments import flag, text
from ddbench.plugin.manager import Entry, Plugins, load_plugin, load_plugins
from ddbench.plugin.options import Options, Preset, check_known
from ddbench.runtime.context import Context, new_store
from ddbench.runtime.machine import Machine
from ddbench.runtime.progress import Reporter

#: Short names of option scopes.
SCOPE_ALIASES = {"eval": "evaluator", "data": "dataset", "caption": "captioner"}


def context(
    plugins: str | Path | Iterable[str | Path] = (),
    preset: str = "",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Context:
    """Build the context of a run: plugins, options by scope, machine, store.

    Raises:
        UsageError: an unknown preset or option scope.
        PluginError: a plugin file is broken.
    """
    chosen, scopes, without_net = (
        Preset.parse(text(preset, "preset")),
        arguments.options(options),
        flag(offline, "offline"),
    )
    if reporter is not None and not isinstance(reporter, Reporter):
        raise UsageError(f"reporter must be a ddbench.Reporter, not {type(reporter).__name__}.")
    loaded = load_plugins(arguments.paths(plugins, "plugins"))
    reporter = reporter or Reporter()
    for failure in loaded.failures:
        reporter.warn(f"left out {failure.owner}: {failure.message}")
    return Context(
        plugins=loaded,
        store=new_store(reporter),
        reporter=reporter,
        machine=Machine.choose(text(device, "device"), text(precision, "precision"), without_net),
        preset=chosen,
        explicit=scoped(scopes, loaded),
    )


def default_dataset(plugins: Plugins) -> str:
    """Return the embedded data set that is used when none is named.

    Raises:
        UsageError: no installed plugin offers one.
    """
    for name, entry in plugins.entries["dataset"].items():
        if getattr(entry.spec, "default", False):
            return name
    raise UsageError("No default data set is installed.", hint="Name one with --dataset.")


def scoped(options: Mapping[str, Mapping[str, Any]], plugins: Plugins) -> dict[str, dict[str, Any]]:
    """Name every scope by kind (``method``) or by kind and plugin (``method/vlcp``).

    Options of a kind are looked at where a plugin of it is used; those of one plugin by name, and those that nobody may
    look at (of captioners and networks), here.

    Raises:
        UsageError: a scope that is not known, or could be several plugins, or an option that nothing has.
    """
    scoped: dict[str, dict[str, Any]] = {}
    for scope, values in options.items():
        full = SCOPE_ALIASES.get(scope, scope)
        if full not in plugins.entries:
            full = _plugin_scope(full, plugins)
        _check(full, values, plugins)
        scoped.setdefault(full, {}).update(values)
    return scoped


def _check(scope: str, values: Mapping[str, Any], plugins: Plugins) -> None:
    kind, _, name = scope.partition("/")
    if values and kind == "network":
        raise UsageError(
            f"Networks have no options, so {next(iter(values))!r} cannot be set.",
            hint="Choose another with --network: `ddbench list networks`.",
        )
    if name and kind != "executor":
        entries = plugins.entries[kind]
        check_known(_options_of(entries.get(name) or entries[f"{name}:"]), scope, values)
    elif kind == "captioner":
        models = map(_options_of, plugins.entries[kind].values())
        known = {option for model in models if model for option in model.model_fields}
        for option in values.keys() - known:
            raise UsageError(
                f"No captioner has an option {option!r}.{did_you_mean(option, sorted(known))}",
                hint=f"Known: {', '.join(sorted(known))}.",
            )


def _options_of(entry: Entry) -> type[Options] | None:
    return getattr(load_plugin(entry), "Options", None)


def _plugin_scope(scope: str, plugins: Plugins) -> str:
    kind, slash, name = scope.partition("/")
    kinds = [SCOPE_ALIASES.get(kind, kind)] if slash else list(plugins.entries)
    wanted = name if slash else scope
    matches = [kind for kind in kinds if {wanted, wanted + ":"} & plugins.entries.get(kind, {}).keys()]
    if len(matches) == 1:
        return f"{matches[0]}/{wanted}"
    if matches:
        choices = " or ".join(f"{kind}/{wanted}" for kind in matches)
        raise UsageError(f"Option scope {scope!r} could be several plugins.", hint=f"Write {choices}.")
    names = {name.rstrip(":") for known in plugins.entries.values() for name in known}
    hint = f"A scope is {', '.join([*SCOPE_ALIASES, *plugins.entries])}, or the name of a plugin (`ddbench list`)."
    raise unknown("option scope", scope, [*SCOPE_ALIASES, *plugins.entries, *names], hint=hint)


def with_dataset(ctx: Context, name: Any) -> Context:
    """Return the context with a data set by name, or the embedded one."""
    wanted = text(name, "dataset") or default_dataset(ctx.plugins)
    return replace(ctx, _dataset=load_dataset(ctx, wanted))
