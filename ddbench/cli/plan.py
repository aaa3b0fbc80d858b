"""`ddbench plan`: what a run would do, without doing any of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench.experiment.dry_run import Line, Outlook
    from ddbench.experiment.jobs import Expansion
    from ddbench.runtime.estimates import Estimate

UNKNOWN = "unknown"


@click.command("plan")
@common.experiment_options
@common.machine_options
@click.pass_context
def command(context: click.Context, /, study: str | None, **values: Any) -> None:
    """Show what `ddbench run` with the same arguments would do, and run nothing.

    Lists the cells with their state; the steps that are done, can be resumed or are to do, with their cost estimated
    from steps that finished on this machine; and the data and model weights that are read, with the command that
    fetches missing ones. No network connection is opened. With --offline, missing weights are an error (exit code 5).

    \b
    Examples:
      ddbench plan --method vlcp --eval rded
      ddbench plan -m vlcp -e minimax -d imagenette --ipc 10 --preset paper
      ddbench plan leaderboards/studies/vlcp-ablation.toml
    """
    context.exit(show(context, study, values))


def show(context: click.Context, study: str | None, values: dict[str, Any]) -> int:
    """Print the plan of a study or of the options of a command; return the exit code."""
    from ddbench.cli import study as studies
    from ddbench.errors import ModelError
    from ddbench.experiment import jobs
    from ddbench.experiment.dry_run import outlook
    from ddbench.runtime.progress import QuietReporter

    content = studies.read_study(context, study, values)
    shared = {**common.common_arguments(values), "offline": True, "reporter": QuietReporter()}  # a plan fetches nothing
    found = jobs.expand(content, studies.base(content, shared), rehearse=True)
    studies.check_boards(content, found)
    click.echo(click.style("cells", bold=True))
    if found.jobs or not found.failures:
        studies.listing(found, Path(values["registry"]))
    else:
        click.echo("  unknown until the data are available")
    seen = outlook(found.jobs, found.failures)
    stages(seen)
    _data(found)
    _weights(seen)
    if found.failures:
        return studies.report(found.failures, "", "lacks data:")
    lacking = values["offline"] and any(not each.here for each in seen.weights)
    return ModelError.exit_code if lacking else 0


def stages(seen: Outlook) -> None:
    """Print every stage with what it will cost, and the sums of what is known."""
    if not seen.lines:
        return
    click.echo(click.style("\nstages", bold=True))
    rows = [("state", "stage", "time", "memory", "disk", "of", "why")]
    for line in _together(seen.lines):
        name = line.name + (f" ×{line.count}" if line.count > 1 else "")
        costs = ("", "", "") if line.state == "done" else _costs(line.estimate)
        rows.append((line.state, name, *costs, line.of, line.why))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        click.echo("  " + "  ".join([*cells, row[-1]]).rstrip())
    click.echo("  " + total(seen.left))


def _together(lines: Sequence[Line]) -> list[Line]:
    """Return neighbours that differ in nothing but which step they are (the experts of a method, students) as one."""
    from dataclasses import replace

    found: list[Line] = []
    for line in lines:
        shown = replace(line, key="", count=1, why=line.why if line.state != "done" else "finished")
        if found and replace(found[-1], count=1, why=shown.why, key="") == shown and found[-1].state == line.state:
            found[-1] = replace(shown, count=found[-1].count + line.count)
        else:
            found.append(line)
    return found


def _costs(estimate: Estimate) -> tuple[str, str, str]:
    return duration(estimate.seconds), size(estimate.memory), size(estimate.disk)


def total(left: Sequence[Line]) -> str:
    """Return the sums over what is left, and for how many stages nobody knows."""
    if not left:
        return "nothing is left to do"
    count = sum(line.count for line in left)
    seconds = [line.estimate.seconds * line.count for line in left if line.estimate.seconds is not None]
    unknown = sum(line.count for line in left if line.estimate.seconds is None)
    peak = max((line.estimate.memory for line in left if line.estimate.memory is not None), default=None)
    disk = [line.estimate.disk * line.count for line in left if line.estimate.disk is not None]
    known = f"{duration(sum(seconds))}, {size(peak)} of memory, {size(sum(disk))} on disk" if seconds else ""
    if not known:
        return f"{count} to do; time unknown: no comparable step has finished on this machine"
    return f"{count} to do: {known}" + (f", and {unknown} of unknown time" if unknown else "")


def _data(found: Expansion) -> None:
    from ddbench.experiment.rehearsal import NotYet

    click.echo(click.style("\ndata", bold=True))
    there = {job.planned.method.ctx.dataset.name: job.planned.method.ctx.dataset for job in found.jobs}
    for name, data in there.items():
        images = f"{len(data.train):,} training and {len(data.test):,} test images"
        click.echo(f"  here     {name}: {images} at {data.image_size}×{data.image_size}")
    for failure in found.failures:
        name = failure.title.rpartition(" on ")[2]
        unread = isinstance(failure.error, NotYet)
        state, when = ("unread ", "it has been looked at") if unread else ("missing", "it is there")
        click.echo(f"  {state}  {name}: see below; its cells and stages are unknown until {when}")


def _weights(seen: Outlook) -> None:
    if not seen.weights:
        return
    click.echo(click.style("\nweights", bold=True))
    for each in seen.weights:
        revision = f" at {each.revision}" if each.revision else ""
        click.echo(f"  {'here   ' if each.here else 'missing'}  {each.source}{revision}, {size(each.bytes)}")
        if not each.here:
            click.echo(f"           → {each.command}")


def duration(seconds: float | None) -> str:
    """Write seconds for people; starting up takes longer than the shortest steps."""
    from ddbench.runtime.progress import duration as words

    return UNKNOWN if seconds is None else "under 5 s" if seconds < 2 else f"~{words(seconds)}"


def size(count: float | None) -> str:
    """Write bytes for people; below a megabyte, how many there are says nothing."""
    if count is None:
        return UNKNOWN
    if count < 1e6:
        return "under 1 MB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
