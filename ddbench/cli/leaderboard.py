"""`ddbench leaderboard`: records → tables, on the terminal and as pages."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ddbench.cli import common
from ddbench.errors import UsageError


@click.command("leaderboard")
@common.registry_option
@click.option("--out", default="leaderboards", show_default=True, metavar="DIR", help="Folder of the pages.")
@click.option("--board", default="", metavar="NAME", help="Only this board (a data set's name, or one of boards.toml).")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a page would change.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "csv", "json"]),
    default="table",
    show_default=True,
    help="What to print.",
)
def command(registry: str, out: str, board: str, check: bool, form: str) -> None:
    """Compare what was recorded: print the tables and write them as Markdown pages.

    Pages depend on the records alone, so they can be checked in and verified. Records that were edited are refused.

    \b
    Examples:
      ddbench leaderboard
      ddbench leaderboard --check
      ddbench leaderboard --board digits --format csv > digits.csv
    """
    from ddbench import registry as records
    from ddbench.reports import data, markdown, pages, terminal

    folder, source = Path(out), Path(registry)
    records.require_valid(source)
    found = records.read_all(source)
    if not found and not check:
        raise UsageError(
            f"There are no records in {registry}.",
            hint="Make some with `ddbench run`, or name another folder with --registry.",
        )
    boards = pages.boards(found, pages.declared(folder), only=board)
    rendered = pages.render(boards) if boards else {}
    if board:
        rendered.pop(pages.INDEX, None)
    if check:
        if differing := pages.changes(folder, rendered, complete=not board):
            for line in differing:
                click.echo(line, err=True)
            click.echo("  → Run `ddbench leaderboard` and commit the pages.", err=True)
            sys.exit(1)
        click.echo(f"{len(rendered)} pages are up to date.")
        return
    if form == "table":
        for each in boards:
            terminal.show(each)
            click.echo()
    else:
        writers = {"markdown": lambda b: "\n".join(map(markdown.board, b)), "csv": data.to_csv, "json": data.to_json}
        click.echo(writers[form](boards), nl=False)
    for name in pages.write(folder, rendered, complete=not board):
        click.echo(f"wrote   {folder / name}", err=True)
