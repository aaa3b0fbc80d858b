"""Networks of the field, registered by name; see ``catalog.py`` for the table."""

from __future__ import annotations

from ddbench import NetworkSpec, hookimpl
from ddbench_plugins.networks.catalog import BRIDGES, NETWORKS


@hookimpl
def ddbench_networks() -> list[NetworkSpec]:
    """Return the built-in networks and the bridges to timm and torchvision."""
    named = [
        NetworkSpec(name, entry.target, entry.summary, settings=tuple(entry.options.items()))
        for name, entry in NETWORKS.items()
    ]
    bridges = [
        NetworkSpec(f"{family}:", target, f"any {family} model by name, e.g. {family}:resnet18")
        for family, target in BRIDGES.items()
    ]
    return named + bridges
