"""`ddbench cancel`: end the workers of a run."""

from __future__ import annotations

import click

from ddbench.escaping import one_line


@click.command("cancel")
@click.argument("run", required=False, metavar="[STUDY.toml | RUN]")
def command(run: str | None) -> None:
    """End the workers of a run (the latest one without an argument); finished cells and steps are kept.

    \b
    Examples:
      ddbench cancel
      ddbench cancel study.toml
    """
    from ddbench.cli.status import find
    from ddbench.experiment.driver import cancel
    from ddbench.experiment.setup import context

    queue = find(run)
    if len(queue.outcomes()) == len(queue.tasks):
        click.echo(f"{queue.folder.name} has ended: no worker is left")
        return
    count, hosts = cancel(queue, context(queue.about["plugins"], device="cpu", precision="fp32"))
    click.echo(f"ended {count} workers of {queue.folder.name}; the same `ddbench run` resumes it")
    if hosts:
        click.echo(
            f"workers on {', '.join(map(one_line, hosts))} go on until their cells have ended;"
            f" `ddbench cancel {queue.folder.name}` there ends them now"
        )
