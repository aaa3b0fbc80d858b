"""Preset rules of plugins as data: reading them, which presets fit, and which experiment they stand for."""

from __future__ import annotations

import importlib.resources
import itertools
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddbench.errors import PluginError, UsageError

#: What a rule of a method may say of the experiment, named as the options of `ddbench run`.
EXPERIMENT = ("eval", "network", "seed", "repeats")
#: What a rule may hold besides ``when`` and ``source``.
PARTS = ("set", "run", "fits")

Rules = Sequence[Mapping[str, Any]]


def load_presets(plugin: Any, who: str = "") -> Rules:
    """Return a plugin's preset rules in their order, read from its TOML files where it names any.

    Raises:
        PluginError: the file cannot be read, or a rule has not the form of one.
    """
    presets = getattr(plugin, "presets", ())
    try:
        parts = [presets] if isinstance(presets, str) else presets
        rules = tuple(rule for part in parts for rule in (_read(plugin, part) if isinstance(part, str) else [part]))
        for rule in rules:
            _check(rule)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise PluginError(
            f"The presets of {who or plugin.__name__} cannot be used: {type(error).__name__}: {error}",
            hint="See docs/cli/presets.md.",
        ) from error
    return rules


def _read(plugin: Any, presets: str) -> Rules:
    module = sys.modules[plugin.__module__]
    if module.__package__:
        text = importlib.resources.files(module.__package__).joinpath(presets).read_text("utf-8")
    else:
        text = Path(str(module.__file__)).with_name(presets).read_text("utf-8")
    rules: Rules = tomllib.loads(text).get("preset", [])
    return rules


def _check(rule: Mapping[str, Any]) -> None:
    parts = {name: rule[name] for name in PARTS if name in rule} or {"set": rule["set"]}
    if not all(isinstance(part, Mapping) for part in (rule.get("when", {}), *parts.values())):
        raise TypeError(f"a rule needs the tables `when` and `set`, not {rule!r}")
    if wrong := [name for name in parts.get("run", {}) if name not in EXPERIMENT]:
        raise ValueError(f"`run` knows {', '.join(EXPERIMENT)}, not {wrong[0]!r}")


def fits(when: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """Whether every condition of a preset rule holds; a list means any of its members."""
    return all(context.get(k) in v if isinstance(v, list) else context.get(k) == v for k, v in when.items())


def experiment(rules: Rules, context: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return what the rules that apply say of the experiment, by key of :data:`EXPERIMENT`, each with its source."""
    return {
        name: (value, rule.get("source", "preset"))
        for rule in rules
        if fits(rule.get("when", {}), context)
        for name, value in rule.get("run", {}).items()
    }


def check_fit(
    rules: Rules,
    context: Mapping[str, Any],
    preset: Mapping[str, str],
    who: str,
    axes: tuple[Sequence[str], Sequence[str]],
) -> None:
    """Refuse a preset whose source says nothing about the context; what is not known is not asked for.

    Args:
        rules: of the plugin; those with ``fits`` say where the presets of their ``when`` fit: where one of them holds.
        context: data set, IPC and so on.
        preset: its ``scale`` and ``fidelity``.
        who: the plugin's name.
        axes: all scales and all fidelities, to list the presets that fit.

    Raises:
        UsageError: it does not fit; the ones that do are listed, and where this one would.
    """
    known = {name: value for name, value in context.items() if value not in (None, "")}

    def asked(preset: Mapping[str, str]) -> list[Mapping[str, Any]]:
        return [rule["fits"] for rule in rules if "fits" in rule and fits(rule.get("when", {}), preset)]

    def good(preset: Mapping[str, str]) -> bool:
        wanted = asked(preset)
        known_parts = [{name: value for name, value in condition.items() if name in known} for condition in wanted]
        return not wanted or any(fits(condition, known) for condition in known_parts)

    if good(preset):
        return
    words = ["+".join(pair) for pair in itertools.product(*axes) if good(dict(zip(preset, pair, strict=True)))]
    wanted = asked(preset)
    places = ", or ".join(
        ", ".join(f"{name} {_any_of(value)}" for name, value in condition.items()) for condition in wanted
    )
    facts = dict.fromkeys(name for condition in wanted for name in condition if name in known)
    raise UsageError(
        f"The preset {'+'.join(preset.values())} of {who} does not fit"
        f" {', '.join(f'{name} {known[name]}' for name in facts)}.",
        hint=f"Presets that fit: {', '.join(words) or 'none'}. This one fits {places}.",
    )


def _any_of(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)
