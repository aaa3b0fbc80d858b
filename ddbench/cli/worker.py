"""`ddbench worker`: what executors start; runs cells of a run until none is left."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("worker", hidden=True)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--cells", type=click.IntRange(1), help="End after so many cells.")
def command(folder: Path, cells: int | None) -> None:
    """Run cells of the run in FOLDER until none is left. Executors start workers; any machine that sees the same files
    may start more."""
    from ddbench.cli import explained
    from ddbench.experiment.worker import work

    work(folder, explained, cells)
