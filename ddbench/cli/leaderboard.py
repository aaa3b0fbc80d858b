"""`ddbench leaderboard`: records → tables, on the terminal and as pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddbench.cli import common, completion
from ddbench.errors import RecordError

if TYPE_CHECKING:
    from ddbench.tables.boards import Boards


@click.command("leaderboard")
@common.registry_option
@click.option("--out", default="leaderboards", show_default=True, metavar="DIR", help="Folder of the pages.")
@click.option(
    "--board",
    default="",
    metavar="NAME",
    shell_complete=completion.boards,
    help="Only this board (a data set's name, or one of boards.toml).",
)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a page would change.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "csv", "json", "latex", "html"]),
    default="table",
    show_default=True,
    help="What to print.",
)
@click.option("--classes", is_flag=True, help="Print accuracies by class as well (needs the data sets).")
@common.notes_option
@common.quiet_option
def command(
    registry: str, out: str, board: str, check: bool, form: str, classes: bool, notes: bool, quiet: bool
) -> None:
    """Turn records into comparison tables: write them as Markdown pages, and print one of them, or which there are.

    Pages depend only on the registry and boards.toml, so they can be committed and checked. Invalid records and claims
    are skipped and named, and the exit code is then 8.

    \b
    Examples:
      ddbench leaderboard
      ddbench leaderboard --board digits
      ddbench leaderboard --check
      ddbench leaderboard --board digits --format csv > digits.csv
      ddbench leaderboard --board digits --format latex --classes > digits.tex
    """
    from ddbench.results.registry import no_records
    from ddbench.tables import pages
    from ddbench.tables.boards import of_registry
    from ddbench.tables.formats import terminal

    folder = Path(out)
    boards, problems = of_registry(Path(registry), folder, board)
    printed = _by_class(registry, folder, board) if classes else boards
    if not (boards or problems or check):
        raise no_records(Path(registry), {})
    rendered = pages.render(boards, complete=not board) if boards else {}
    for problem in problems:
        click.echo(f"left out {problem}", err=True)
    if check:
        differing = pages.changes(folder, rendered, complete=not board)
        for line in differing:
            click.echo(line, err=True)
        if differing:
            click.echo("  → Run `ddbench leaderboard` and commit the pages.", err=True)
            sys.exit(1)
        if problems:
            sys.exit(RecordError.exit_code)
        click.echo(f"{len(rendered)} pages are up to date.")
        return
    written = pages.write(folder, rendered, complete=not board)
    if form != "table":
        click.echo(printed.to(form), nl=False)
    elif board:
        for shown in printed:
            terminal.show(shown, notes=notes or classes)
    else:
        click.echo(common.aligned((shown.name, shown.title) for shown in boards))
        click.echo("`ddbench leaderboard --board NAME` prints one.")
    for name in [] if quiet else written:
        click.echo(f"wrote   {folder / name}", err=True)
    if problems:
        click.echo("  → `ddbench registry verify` lists the problems; all other records are in the tables.", err=True)
        sys.exit(RecordError.exit_code)


def _by_class(registry: str, folder: Path, board: str) -> Boards:
    """Return the same boards with accuracies by class, for which the data sets are read."""
    from ddbench.api import labels_of
    from ddbench.tables.boards import of_registry

    return of_registry(Path(registry), folder, board, labels_of)[0]
