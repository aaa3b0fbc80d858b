"""`ddbench plugins`: who offers what, and what was left out."""

from __future__ import annotations

import click

from ddbench.cli import common


@click.command("plugins")
@common.plugin_option
def command(plugins: tuple[str, ...]) -> None:
    """Show every plugin with its origin and what it registers, and those that failed to load, with the reason.

    A broken plugin never stops the others; DDBENCH_PLUGIN_ERRORS=raise turns it into an error, for plugin authors.

    \b
    Examples:
      ddbench plugins
      ddbench plugins --plugin mine.py
    """
    from ddbench.plugin.manager import load_plugins

    loaded = load_plugins(plugins)
    for owner in loaded.owners:
        offered = {
            kind: [name for name, entry in sorted(known.items()) if entry.owner == owner]
            for kind, known in loaded.entries.items()
        }
        click.echo(f"{click.style(owner.name, bold=True)} ({owner.origin})")
        for kind, names in offered.items():
            if names:
                click.echo(f"  {kind}s: {', '.join(names)}")
    if loaded.failures:
        click.echo(click.style("left out", bold=True))
    for failure in loaded.failures:
        click.echo(f"  {failure.owner}: {failure.message}")
