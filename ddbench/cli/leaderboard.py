"""`ddbench leaderboard`: records → tables, on the terminal and as pages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddbench.cli import common
from ddbench.errors import RecordError, UsageError

if TYPE_CHECKING:
    from ddbench.tables.board import Board


#: The folder of pages where none is named; its boards.toml counts where another folder has none.
USUAL = "leaderboards"


@click.command("leaderboard")
@common.registry_option
@click.option("--out", default=USUAL, show_default=True, metavar="DIR", help="Folder of the pages.")
@click.option("--board", default="", metavar="NAME", help="Only this board (a data set's name, or one of boards.toml).")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a page would change.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "csv", "json", "latex", "html"]),
    default="table",
    show_default=True,
    help="What to print.",
)
def command(registry: str, out: str, board: str, check: bool, form: str) -> None:
    """Compare what was recorded: print the tables and write them as Markdown pages.

    Pages depend on the registry and boards.toml alone, so they can be checked in and verified. Faulty or edited records
    and claims are left out and named, and the command then ends with exit code 8.

    \b
    Examples:
      ddbench leaderboard
      ddbench leaderboard --check
      ddbench leaderboard --board digits --format csv > digits.csv
      ddbench leaderboard --board table2 --format latex > table2.tex
    """
    from ddbench.tables import boards as making
    from ddbench.tables import pages
    from ddbench.tables.declared import FILE

    folder = Path(out)
    content = making.read_registry(Path(registry), without=("curves", "correct"))
    if not content.records and not content.published.claims and not content.problems and not check:
        raise UsageError(
            f"There are no records in {registry}.",
            hint="Make some with `ddbench run`, or name another folder with --registry.",
        )
    told = folder if (folder / FILE).exists() else Path(USUAL)
    boards = making.boards(content.records, pages.declared(told), only=board, claims=content.published)
    rendered = pages.render(boards) if boards else {}
    if board:
        rendered.pop(pages.INDEX, None)
    for problem in content.problems:
        click.echo(f"left out {problem}", err=True)
    if check:
        differing = pages.changes(folder, rendered, complete=not board)
        for line in differing:
            click.echo(line, err=True)
        if differing:
            click.echo("  → Run `ddbench leaderboard` and commit the pages.", err=True)
        if differing:
            sys.exit(1)
        if content.problems:
            sys.exit(RecordError.exit_code)
        click.echo(f"{len(rendered)} pages are up to date.")
        return
    written = pages.write(folder, rendered, complete=not board)
    _print(boards, form)
    for name in written:
        click.echo(f"wrote   {folder / name}", err=True)
    if content.problems:
        click.echo("  → `ddbench registry verify` lists what is wrong; nothing else is affected.", err=True)
        sys.exit(RecordError.exit_code)


def _print(boards: list[Board], form: str) -> None:
    from ddbench.tables.formats import csv_json as data
    from ddbench.tables.formats import html, latex, markdown, terminal

    if form == "table":
        for each in boards:
            terminal.show(each)
            click.echo()
        return
    writers: dict[str, Callable[[list[Board]], str]] = {
        "markdown": lambda each: "\n".join(map(markdown.board, each)),
        "csv": data.to_csv,
        "json": data.to_json,
        "latex": lambda each: "\n".join(map(latex.board, each)),
        "html": lambda each: "\n".join(map(html.board_html, each)),
    }
    click.echo(writers[form](boards), nl=False)
