"""`ddbench site`: the registry as one web page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ddbench.cli import common

#: What a page says of itself near its beginning; only such pages are replaced.
MADE, WITHIN = b'<meta name="generator" content="ddbench">', 4096


@click.command("site")
@common.registry_option
@click.option("--out", default="site", show_default=True, metavar="DIR", help="Folder of the page.")
@click.option(
    "--leaderboards", default="leaderboards", show_default=True, metavar="DIR", help="Folder of boards.toml (if any)."
)
@click.option("--strict", is_flag=True, help="Write nothing if anything in the registry is invalid.")
@common.plugin_option
def command(registry: str, out: str, leaderboards: str, strict: bool, plugins: tuple[str, ...]) -> None:
    """Build one self-contained web page: boards, plots, and a view of every method and record.

    Open the file in a browser; it needs no server and no network. Invalid records are skipped and named, and the
    exit code is then 8. Contact sheets come from registry/images, or from the distilled sets on this machine.

    \b
    Examples:
      ddbench site
      ddbench gallery --keep && ddbench site      with pictures that can be committed
    """
    from ddbench.errors import RecordError, UsageError
    from ddbench.files.writing import write_atomic
    from ddbench.plugin.manager import load_plugins
    from ddbench.site.build import FILE, build

    loaded = load_plugins(plugins)
    common.warn_failures(loaded)
    built = build(Path(registry), Path(leaderboards), loaded)
    for problem in built.problems:
        click.echo(f"left out {problem}", err=True)
    if strict and built.problems:
        raise RecordError(
            f"{len(built.problems)} problems in {registry}.", hint="`ddbench registry verify` lists them."
        )
    if not built.records and not built.claims:
        click.echo(f"warning: {registry} holds neither records nor claims; the page is empty.", err=True)
    path = Path(out) / FILE
    if path.exists() and MADE not in path.read_bytes()[:WITHIN]:
        raise UsageError(
            f"{path} was not written by ddbench and is not replaced.", hint="Choose another folder with --out."
        )
    write_atomic(path, built.html)
    size: Any = len(built.html.encode()) / 1e6
    click.echo(f"{path}  {built.records} records, {built.claims} claims, {built.sheets} contact sheets, {size:.1f} MB")
    sys.exit(RecordError.exit_code if built.problems else 0)
