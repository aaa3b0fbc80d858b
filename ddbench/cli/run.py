"""`ddbench run`: distil, evaluate, record, compare."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common, completion

if TYPE_CHECKING:
    from ddbench.results.schema import Record


@click.command("run")
@common.experiment_options
@click.option("--out", default="", metavar="DIR", help="Folder of a study's boards (default: the study's name).")
@click.option("--dry-run", is_flag=True, help="Run nothing: the same as `ddbench plan`.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Workers on this machine that share the cells.")
@click.option(
    "--executor",
    default="",
    metavar="NAME",
    help="What starts workers (`ddbench list executors`).",
    shell_complete=completion.names("executor"),
)
@click.option("--detach", is_flag=True, help="Do not wait for workers of a queue; `ddbench status` shows them.")
@click.option("--retry-failed", is_flag=True, help="Let workers run cells again that failed.")
@common.machine_options
@common.notes_option
@common.json_option
@click.pass_context
def command(context: click.Context, /, study: str | None, **values: Any) -> None:
    """Distil with every method, evaluate under every protocol, and write one record per cell.

    Finished steps are reused, and interrupted ones resume from their last checkpoint. All names and options are checked
    before anything runs. A study file holds the same options in several blocks; it continues after failures, and
    options of the command override those of the file (docs/cli/studies.md).

    \b
    Examples:
      ddbench run --method vlcp --eval rded
      ddbench run -m random,herding,vlcp,full -e rded --ipc 1,10 --seed 0,1,2 --repeats 3
      ddbench run -m vlcp -e rded -o method.strength=0.6 -o eval.epochs=100
      ddbench run -m vlcp -e minimax,rded -d imagenette --preset paper --device cuda
      ddbench run -m mine -e rded --plugin mine.py
      ddbench run leaderboards/studies/vlcp-ablation.toml --dry-run
      ddbench run leaderboards/studies/vlcp-ablation.toml --jobs 4
    """
    from ddbench.cli import plan, workers
    from ddbench.cli import study as studies
    from ddbench.experiment import jobs
    from ddbench.experiment.executors import named
    from ddbench.results.schema import Record

    if values["dry_run"]:
        context.exit(plan.show(context, study, values))
    started = time.time()
    content = studies.read_study(context, study, values)
    shared = common.common_arguments(values)
    reporter, force, registry = shared["reporter"], shared["force"], Path(values["registry"])
    if executor := named(content, values["executor"], values["jobs"]):
        printed = partial(show, registry=registry, notes=values["notes"])
        context.exit(workers.execute(context, content, executor, shared, values, printed))
    expansion = jobs.expand(content, studies.base(content, shared))
    if not study:  # the first error ends a command, and what was finished before is kept
        for failure in expansion.failures:
            raise failure.error
        done = jobs.run(expansion.jobs, registry.absolute(), reporter, force=force, stop=True)
        show([record for record in done if isinstance(record, Record)], started, registry, notes=values["notes"])
        return
    studies.check_boards(content, expansion)
    code = studies.carry_out(
        content,
        expansion,
        registry,
        out=Path(values["out"]) if values["out"] else content.path.with_suffix(""),
        reporter=reporter,
        again=shlex.join(["ddbench", *sys.argv[1:]]),
        force=force,
        notes=values["notes"],
        debug=bool(context.obj and context.obj.get("debug")),
    )
    context.exit(code)


def show(records: list[Record], started: float, registry: Path, *, notes: bool = False) -> None:
    """Print the table of these records, where they are, where the images are, and what was there before the start."""
    from ddbench.results.exchange import path_of
    from ddbench.tables.boards import measured
    from ddbench.tables.declared import declared
    from ddbench.tables.formats import terminal

    common.give_records(records, [], registry)
    terminal.show(measured(records, [declared(Path("leaderboards")).layout()]), notes=notes)
    click.echo()
    for record in records:
        click.echo(f"record  {path_of(record, registry)}")
    for folder, record in {images_folder(record): record for record in records}.items():
        if folder is not None:
            cell = record.cell
            click.echo(f"images  {cell.method.name}, IPC {record.budget}, seed {cell.seed}: {folder}")
    if text := reused(records, started):
        click.echo(f"reused  {text}")


def reused(records: list[Record], started: float) -> str:
    """Return how many steps of each kind were finished before ``started`` (seconds since the epoch), or ""."""
    from ddbench.files.writing import home
    from ddbench.runtime.store import MARKER

    steps = {(step["step"], step["key"]) for record in records for step in record.costs.steps}
    old: Counter[str] = Counter()
    for name, key in steps:
        marker = home() / name / key / MARKER
        if marker.exists() and marker.stat().st_mtime < started:
            old[name] += 1
    total = Counter(name for name, _ in steps)
    return ", ".join(f"{name} {count} of {total[name]}" for name, count in sorted(old.items()))


def images_folder(record: Record) -> Path | None:
    """Return the folder of the distilled set of a record, if this machine has it."""
    from ddbench.files.writing import home
    from ddbench.sets.folder import FILE

    folder = home() / "distilled" / record.distilled.key
    return folder if (folder / FILE).exists() else None
