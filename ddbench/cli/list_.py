"""`ddbench list`: the names there are to combine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ddbench.cli import common, completion
from ddbench.errors import same_but_case, unknown
from ddbench.plugin.specs import KINDS

if TYPE_CHECKING:
    from ddbench.plugin.manager import Entry

ALIASES = {"eval": "evaluator", "data": "dataset"}


@click.command("list")
@click.argument("kind", required=False, shell_complete=completion.kinds)
@common.plugin_option
@common.json_option
def command(kind: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List methods, evaluators, data sets, networks, captioners and executors, or only one KIND of them.

    \b
    Examples:
      ddbench list
      ddbench list methods
      ddbench list networks --plugin mine.py
    """
    from ddbench.plugin.manager import load_plugins

    loaded = load_plugins(plugins)
    wanted = KINDS
    if kind is not None:
        singular = kind.lower().removesuffix("s")
        singular = ALIASES.get(singular, singular)
        if singular not in KINDS:
            name = same_but_case(kind, (name for known in loaded.entries.values() for name in known))
            raise unknown("kind", kind, KINDS, hint=name and f"`ddbench show {name}` shows what is called {name}.")
        wanted = (singular,)
    common.give(lambda: [entry.to_dict() for name in wanted for _, entry in sorted(loaded.entries[name].items())])
    for number, name in enumerate(wanted):
        if number:
            click.echo()
        click.echo(click.style(f"{name}s", bold=True))
        click.echo(described(loaded.entries[name]))
    common.warn_failures(loaded)


def described(entries: Mapping[str, Entry]) -> str:
    """Return aligned names and summaries; the owner stands behind what is not built in."""
    rows = []
    for name, entry in sorted(entries.items()):
        default = " (default)" * bool(getattr(entry.spec, "default", False))
        owner = f" [{entry.owner}]" * (entry.owner.origin != "built-in")
        rows.append((name, f"{entry.spec.summary}{default}{owner}"))
    return common.aligned(rows)
