"""`ddbench plan`: what a run would do, without doing any of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from ddbench.cli import common


@click.command("plan")
@common.experiment_options
@common.machine_options
@click.option("--card", default="", metavar="NAME", help="Estimate for a GPU that is not here, e.g. h100 or rtx-4090.")
@click.option("--commands", is_flag=True, help="Print a command for each cell, to be run by any other engine.")
@common.json_option
@click.pass_context
def command(context: click.Context, /, study: str | None, **values: Any) -> None:
    """Show what `ddbench run` with the same arguments would do, and run nothing.

    Lists the cells with their state; the steps that are done, can be resumed or are to do, with their cost estimated
    from steps that finished on this machine; and the data and model weights that are read, with the command that
    fetches missing ones. No network connection is opened. With --offline, missing weights are an error (exit code 5).

    With --card, cost is that of a known GPU, counted from the operations and bytes of models, with batch sizes that
    fit its memory.

    \b
    Examples:
      ddbench plan --method vlcp --eval rded
      ddbench plan -m vlcp -e minimax -d imagenette --ipc 10 --preset paper
      ddbench plan -m vlcp -d imagenette --preset paper --card h100
      ddbench plan leaderboards/studies/vlcp-ablation.toml
      ddbench plan leaderboards/studies/vlcp-ablation.toml --commands | xargs -P 4 -I CELL sh -c CELL
    """
    context.exit((commands if values["commands"] else show)(context, study, values))


def show(context: click.Context, study: str | None, values: dict[str, Any]) -> int:
    """Print the plan of a study or of the options of a command; return the exit code."""
    from ddbench.cli import study as studies
    from ddbench.errors import ModelError
    from ddbench.experiment.plan import plan
    from ddbench.runtime.cards import card
    from ddbench.runtime.progress import QuietReporter

    chosen = card(values.get("card", ""))
    content = studies.read_study(context, study, values)
    shared = {**common.common_arguments(values), "offline": True, "reporter": QuietReporter()}  # a plan fetches nothing
    planned = plan(content, studies.base(content, shared), Path(values["registry"]), chosen)
    studies.check_boards(content, planned.cells)
    common.give(planned.to_dict)
    for number, (heading, lines) in enumerate(planned.sections().items()):
        click.echo("\n" * bool(number) + click.style(heading, bold=True))
        click.echo("\n".join(lines))
    if planned.cells.failures:
        return studies.report(planned.cells.failures, "", "lacks data:")
    return ModelError.exit_code if values["offline"] and planned.missing else 0


def commands(context: click.Context, study: str | None, values: dict[str, Any]) -> int:
    """Print the command of each cell; return the exit code."""
    from ddbench.cli import study as studies
    from ddbench.experiment.jobs import expand
    from ddbench.experiment.study import command_words

    content, shared = studies.read_study(context, study, values), common.common_arguments(values)
    expansion = expand(content, studies.planning(content, shared), build=False)
    settings = {**shared, "plugins": [*content.plugins, *shared["plugins"]], "registry": values["registry"]}
    for job in expansion.jobs:
        click.echo(shlex.join(["ddbench", *command_words(job.arguments, settings)]))
    return studies.report(expansion.failures, "", "lacks data:") if expansion.failures else 0
