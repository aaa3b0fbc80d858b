"""`ddbench compare`: whether two methods differ, and whether there are runs enough to say."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ddbench.cli import common, completion
from ddbench.errors import RecordError


@click.command("compare")
@click.argument("first", metavar="A", shell_complete=completion.names("method", files=True))
@click.argument("second", metavar="B", shell_complete=completion.names("method", files=True))
@common.registry_option
@click.option(
    "--leaderboards",
    default="leaderboards",
    show_default=True,
    metavar="DIR",
    help="Folder of boards.toml (if any), which says what tables call methods.",
)
@common.listed("-d", "--dataset", help="Only these data sets.")
@common.listed("-e", "--eval", "evaluator", help="… evaluators.")
@common.listed("-n", "--network", help="… networks.")
@common.listed("--ipc", read=common.numbers, help="… budgets.")
@common.json_option
def command(
    first: str,
    second: str,
    registry: str,
    leaderboards: str,
    dataset: list[str] | None,
    evaluator: list[str] | None,
    network: list[str] | None,
    ipc: list[int] | None,
    as_json: bool,
) -> None:
    """Compare two methods in every setting in which both were measured, or two records.

    A and B are methods (vlcp), methods with options ("vlcp (strength=0.6)"), what tables call them, or record files.
    Each comparison gives the difference of the means in percentage points, its 95 % confidence interval, the p value
    (also Holm-corrected over the settings), the number of distilled sets and networks, and whether these are too few.

    \b
    Examples:
      ddbench compare vlcp random
      ddbench compare vlcp random -d cifar10 --ipc 10
      ddbench compare RECORD RECORD
    """
    from ddbench.tables.comparing import of_registry

    filters = {"dataset": dataset, "evaluator": evaluator, "network": network, "ipc": ipc}
    chosen = {name: values for name, values in filters.items() if values}
    comparison, problems = of_registry(Path(registry), first, second, Path(leaderboards), **chosen)
    for problem in problems:
        click.echo(f"left out {problem}", err=True)
    common.give(comparison.to_dict)
    click.echo(str(comparison))
    if problems:
        sys.exit(RecordError.exit_code)
