"""What a shell offers behind the cursor: names of plugins in comma lists, presets, options, boards, files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ddbench.plugin.specs import KINDS

#: Scopes of ``-o``, and whose options they are.
SCOPES = {"eval": "evaluator", "method": "method", "data": "dataset", "captioner": "captioner", "executor": "executor"}
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offer(words: Iterable[tuple[str, str]], incomplete: str, separator: str = ",") -> list[CompletionItem]:
    """Offer words (with their help) for the last part of a list; those that are there already are left out."""
    before, mark, last = incomplete.rpartition(separator) if separator else ("", "", incomplete)
    there = before.split(separator) if separator else []
    return [
        CompletionItem(f"{before}{mark}{word}", help=text)
        for word, text in words
        if word.startswith(last) and word not in there
    ]


def _entries(context: click.Context, kinds: Iterable[str]) -> Iterator[tuple[str, str]]:
    from ddbench.plugin.manager import load_plugins

    with contextlib.suppress(Exception):  # a broken plugin file is an error of the command, not of the shell
        plugins = load_plugins(context.params.get("plugins") or ())
        for kind in kinds:
            yield from ((name, entry.spec.summary) for name, entry in sorted(plugins.entries[kind].items()))


def names(*kinds: str, files: bool = False) -> Complete:
    """Complete a comma list of names of plugins; with ``files`` also paths."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        offered = _offer(_entries(context, kinds), incomplete)
        return offered or [CompletionItem(incomplete, type="file")] * files

    return complete


def paths(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a file or folder."""
    return [CompletionItem(incomplete, type="file")]


def presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete ``paper+official``."""
    words = {"cpu": "scale (default)", "paper": "scale", "sane": "fidelity (default)", "official": "fidelity"}
    return _offer(words.items(), incomplete, "+")


def options(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete ``SCOPE.KEY`` by the options of the plugins that the command names."""
    with contextlib.suppress(Exception):
        known = option_keys(context.params)
        return _offer(((f"{scope}.{key}=", "") for scope, keys in known.items() for key in keys), incomplete, "")
    return []


def option_keys(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the options by scope, those of the plugins that a command names, of a kind without one those of all.

    Args:
        values: ``method``, ``evaluator``, ``dataset`` (names or None) and ``plugins`` (files) of a command line.
    """
    from ddbench.plugin.manager import load_plugin, load_plugins

    plugins = load_plugins(values.get("plugins") or ())
    keys: dict[str, list[str]] = {}
    for scope, kind in SCOPES.items():
        named = values.get(kind) or ()
        entries = [entry for name, entry in plugins.entries[kind].items() if name in named or not named]
        models = [getattr(load_plugin(entry), "Options", None) for entry in entries]
        keys[scope] = sorted({name for model in models if model for name in model.model_fields})
    return keys


def kinds(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a kind of plugin."""
    return _offer(((kind, "") for kind in KINDS), incomplete, "")


def models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a trained model of the artifact folder."""
    from ddbench.files.writing import home
    from ddbench.runtime.store import Store
    from ddbench.sets.models import trained

    found = (
        (f"{done.name}/{done.key[:12]}", done.marker["about"].get("dataset", "")) for done in trained(Store(home()))
    )
    return _offer(found, incomplete, "")


def boards(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a board by the pages that are there."""
    pages = sorted(Path(context.params.get("out") or "leaderboards").glob("*.md"))
    return _offer(((page.stem, "") for page in pages if page.stem != "README"), incomplete, "")
