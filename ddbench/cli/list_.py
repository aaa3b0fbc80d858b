"""`ddbench list`: the names there are to combine."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ddbench.cli import common
from ddbench.errors import unknown
from ddbench.plugin.specs import KINDS

if TYPE_CHECKING:
    from ddbench.plugin.manager import Entry

ALIASES = {"eval": "evaluator", "data": "dataset"}


@click.command("list")
@click.argument("kind", required=False)
@common.plugin_option
def command(kind: str | None, plugins: tuple[str, ...]) -> None:
    """List methods, evaluators, data sets, networks and captioners, or only one KIND of them.

    \b
    Examples:
      ddbench list
      ddbench list methods
      ddbench list networks --plugin mine.py
    """
    from ddbench.plugin.manager import load_plugins

    wanted = KINDS
    if kind is not None:
        singular = kind.lower().removesuffix("s")
        singular = ALIASES.get(singular, singular)
        if singular not in KINDS:
            raise unknown("kind", kind, KINDS)
        wanted = (singular,)
    loaded = load_plugins(plugins)
    for number, name in enumerate(wanted):
        if number:
            click.echo()
        click.echo(click.style(f"{name}s", bold=True))
        for line in lines(loaded.entries[name]):
            click.echo(line)
    common.warn_failures(loaded)


def lines(entries: Mapping[str, Entry]) -> list[str]:
    """Return aligned, wrapped lines of name and summary; the owner stands behind what is not built in."""
    if not entries:
        return ["  none"]
    # Piped output keeps one line per name, for grep.
    width = max(60, shutil.get_terminal_size().columns) - 1 if sys.stdout.isatty() else sys.maxsize
    column = min(24, max(map(len, entries))) + 4
    listed = []
    for name in sorted(entries):
        entry = entries[name]
        text = entry.spec.summary
        if getattr(entry.spec, "default", False):
            text += " (default)"
        if entry.owner.origin != "built-in":
            text += f" [{entry.owner}]"
        indent = " " * column
        first = f"  {name}".ljust(column) if len(name) + 4 <= column else f"  {name}  "
        listed.append(textwrap.fill(text, width, initial_indent=first, subsequent_indent=indent) or first.rstrip())
    return listed
