"""`ddbench compare`: whether two methods differ, and whether there are runs enough to say."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ddbench.cli import common
from ddbench.errors import RecordError, UsageError


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@common.registry_option
@common.listed("-d", "--dataset", help="Only these data sets.")
@common.listed("-e", "--eval", "evaluator", help="… evaluators.")
@common.listed("-n", "--network", help="… networks.")
@common.listed("--ipc", read=common.numbers, help="… budgets.")
def command(
    first: str,
    second: str,
    registry: str,
    dataset: list[str] | None,
    evaluator: list[str] | None,
    network: list[str] | None,
    ipc: list[int] | None,
) -> None:
    """Compare two methods in every setting that both were measured in, or two records.

    A and B are methods (vlcp), methods with options as tables name them ("vlcp (strength=0.6)"), or record files. Each
    comparison says the effect in points, its 95 % interval, p (also corrected by Holm over the settings), how many
    distilled sets and networks stand behind it, and when these are too few to say anything.

    \b
    Examples:
      ddbench compare vlcp random
      ddbench compare vlcp random -d cifar10 --ipc 10
      ddbench compare RECORD RECORD
    """
    from ddbench.results.registry import load, read_good, select
    from ddbench.tables import comparing

    if first == second:
        raise UsageError(f"A and B are both {first!r}.", hint="Name two methods, or two records.")
    problems: list[str] = []
    if first.endswith(".json") or second.endswith(".json"):
        settings = [comparing.of_records(read_good(Path(first)), read_good(Path(second)))]
    else:
        found, left_out = load(Path(registry), without=("curves",))
        problems = [f"left out {problem}" for problem in left_out]
        chosen = select(found, dataset=dataset or (), evaluator=evaluator or (), network=network or (), ipc=ipc or ())
        if not chosen:
            raise UsageError(
                f"No record in {registry} fits.", hint="`ddbench run` makes some; --registry names another folder."
            )
        settings = comparing.settings(chosen, first, second)
    for line in problems:
        click.echo(line, err=True)
    if not settings:
        raise UsageError(
            f"{first} and {second} were not measured under one protocol on one data set.",
            hint="`ddbench leaderboard` shows what was measured; `ddbench run` makes what is missing.",
        )
    click.echo("\n".join(comparing.lines(settings, first, second)))
    if problems:
        sys.exit(RecordError.exit_code)
