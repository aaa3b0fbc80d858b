"""Builds a network by its registered name, for tests that have no run."""

from __future__ import annotations

from typing import Any

from ddbench.plugin.manager import load_plugins


def build_network(name: str, **settings: Any) -> Any:
    """Return what ``ctx.build_network`` would, without a data set and with the global random state."""
    entry = load_plugins().get("network", name)
    fixed = dict(entry.spec.settings) | ({"name": entry.argument} if entry.argument else {})
    return entry.spec.load()(**(fixed | settings))
