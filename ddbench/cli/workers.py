"""What `ddbench run` does where workers run the cells: starts them, shows how they are, and sums up."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import study as studies
from ddbench.cli.status import Display
from ddbench.errors import DDBenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddbench.experiment.jobs import Failure
    from ddbench.experiment.queue import Queue
    from ddbench.experiment.study import Study
    from ddbench.results.schema import Record

    Show = Callable[[list[Record], float], None]


def execute(
    context: click.Context, study: Study, name: str, shared: dict[str, Any], values: dict[str, Any], show: Show
) -> int:
    """Let workers run the cells of a study or of a command, sum up, and return the exit code.

    Args:
        context: of the command.
        study: as read, or of the command.
        name: of the executor that starts workers.
        shared, values: of the command.
        show: prints the records of a command that is no study, and when they were begun.
    """
    from ddbench.experiment import jobs
    from ddbench.experiment.driver import check, drive, tasks
    from ddbench.experiment.executors import bind
    from ddbench.experiment.queue import Queue
    from ddbench.files.writing import check_writable

    planning, registry = studies.planning(study, shared), Path(values["registry"]).absolute()
    executor = bind(planning, study, name, values["jobs"])
    if values["detach"] and not executor.plugin.detaches:
        raise UsageError(
            f"--detach: workers of the executor {name} end with the command that started them.",
            hint="Leave the command running in tmux or screen, or use an executor whose engine goes on by itself.",
        )
    expansion = jobs.expand(study, planning, build=False)
    studies.check_boards(study, expansion)
    check_writable(registry)
    check(executor)
    settings = {
        **{name: values[name] for name in ("device", "precision", "offline", "force")},
        "study": str(study.path.absolute()) if study.title else "",
        "plugins": [str(Path(file).absolute()) for file in planning.plugins.files],
        "registry": str(registry),
        "folder": str(Path.cwd()),
    }
    same, failures = expansion.same, expansion.failures
    queue = Queue.create(
        study.path.stem or "-".join(study.blocks[0].method), tasks(expansion.jobs), settings, planning.plugins
    )
    del expansion  # thousands of cells are kept as plain data only
    queue.begin(retry=values["retry_failed"], again=values["force"])
    with Display(queue, quiet=values["quiet"]) as display:
        try:
            drive(queue, executor, display.look, detach=values["detach"])
        except KeyboardInterrupt:
            if executor.plugin.detaches:
                display.tell(
                    f"Workers continue; see `ddbench status {queue.folder.name}`, end them by `ddbench cancel`."
                )
            raise
    if values["detach"]:
        click.echo(f"workers continue; `ddbench status {queue.folder.name}` shows them")
        return 0
    records, failed = results(queue)
    again = shlex.join(["ddbench", *sys.argv[1:], *["--retry-failed"] * (not values["retry_failed"])])
    failures += failed
    if study.title:
        names = {task.label: task.name for task in queue.tasks if task.name}
        out = Path(values["out"]) if values["out"] else study.path.with_suffix("")
        debug = bool(context.obj and context.obj.get("debug"))
        return studies.summary(
            study, names, same, records, failures, registry, out=out, again=again, notes=values["notes"], debug=debug
        )
    if records:
        show(records, display.started)
    return studies.report(failures, again) if failures else 0


def results(queue: Queue) -> tuple[list[Record], list[Failure]]:
    """Return the records of a run in the order of its cells, and what failed."""
    from ddbench.experiment.jobs import Failure
    from ddbench.experiment.queue import DONE
    from ddbench.results.registry import Pool
    from ddbench.results.schema import read

    records, failures, pool = [], [], Pool()
    for state in queue.states():
        if state.state == DONE:
            records.append(pool.shared(read(Path(state.about["record"]))))
        else:
            error = DDBenchError(state.about.get("message", "It was cancelled."), hint=state.about.get("hint", ""))
            error.exit_code = state.about.get("code", error.exit_code)
            failures.append(Failure(f"{state.title} (log: {state.log})", error))
    return records, failures
