"""Drives a run: keeps as many workers going as there is work for, until every cell has ended.

A driver holds nothing that is not in the folder of the run: killed and started again, it finds what runs and what is
done. Of several drivers of one run, one starts workers and the others watch.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ddbench.errors import DDBenchError
from ddbench.experiment.dry_run import steps
from ddbench.experiment.jobs import Job
from ddbench.experiment.queue import Queue, Task
from ddbench.files.locks import Taken, leased
from ddbench.files.writing import home
from ddbench.plugin.interfaces import Executor, Launch
from ddbench.plugin.manager import plugin_errors
from ddbench.runtime.context import Bound, Context

#: Seconds between two looks at the folder.
LOOK = 0.5
#: Seconds that workers get to give their cells back.
GRACE = 30.0
#: Variables that workers need wherever they are.
INHERITED = ("DDBENCH_", "HF_", "PYTHONPATH")


def tasks(jobs: Sequence[Job]) -> list[Task]:
    """Return jobs as plain data, with the steps that several of their distilled sets need."""
    needed: dict[int, list[str]] = {}
    for job in jobs:
        if id(job.planned) not in needed:
            paths = [step.path for step in steps(job) if step.distils]
            needed[id(job.planned)] = [path.relative_to(home()).as_posix() for path in paths]
    counts = Counter(path for job in jobs for path in needed[id(job.planned)])
    return [
        Task(
            job.title,
            job.label,
            job.name,
            job.arguments,
            job.mark,
            tuple(path for path in needed[id(job.planned)] if counts[path] > 1),
        )
        for job in jobs
    ]


def check(executor: Bound[Executor]) -> None:
    """Refuse what an executor cannot do here, before there is a run.

    Raises:
        UsageError: what it lacks.
    """
    with plugin_errors(executor.entry):
        executor.plugin.check(executor.ctx)


def drive(queue: Queue, executor: Bound[Executor], look: Callable[[], object], *, detach: bool = False) -> None:
    """Start workers until every cell of a run has ended, or the run is cancelled.

    Args:
        queue: its folder.
        executor: starts workers; it has been checked.
        look: called now and then.
        detach: return as soon as workers have been started.

    Raises:
        DDBenchError: workers end before they do anything.
    """
    crew = Crew(queue, executor, alone=detach)
    with contextlib.ExitStack() as held:
        leads = False
        try:
            while not (queue.stopped or len(queue.outcomes()) == len(queue.tasks)):
                if not leads:
                    with contextlib.suppress(Taken):
                        held.enter_context(leased(queue.folder / "driver.lease"))
                        leads = True
                if leads:
                    crew.fill()
                look()
                if detach:
                    return
                time.sleep(LOOK)
        except KeyboardInterrupt:
            if leads and not executor.plugin.detaches:
                crew.end()
            raise
    look()


class Crew:
    """The workers of a run; those that are left alone must be enough for all cells from the start."""

    def __init__(self, queue: Queue, executor: Bound[Executor], *, alone: bool = False) -> None:
        self.queue, self.executor, self.alone = queue, executor, alone
        self.handles = [worker["handle"] for worker in queue.workers() if worker["executor"] == executor.entry.name]
        self._asked, self._ended = 0.0, 0
        self._progress: tuple[int, tuple[tuple[int, float], ...]] = (0, ())

    def fill(self) -> None:
        """Start as many workers as are missing.

        Raises:
            DDBenchError: they end before they do anything.
        """
        plugin, ctx, entry = self.executor
        if (now := time.monotonic()) < self._asked + plugin.interval and self._asked:
            return
        self._asked = now
        before = len(self.handles)
        self.handles = self.running()
        claims = tuple((number, claim["since"]) for number, claim in self.queue.running().items())
        progress = (len(self.queue.outcomes()), claims)
        self._ended = self._ended + before - len(self.handles) if progress == self._progress else 0
        self._progress = progress
        cells = len(self.queue.tasks) - len(self.queue.outcomes()) if self.alone else self.queue.startable()
        with plugin_errors(entry):
            wanted = plugin.capacity(ctx, cells)
        if self._ended > max(3, wanted):
            raise DDBenchError(
                f"Workers end before they do anything: {self._last_words() or 'no reason is known'}",
                hint=f"What they printed is in {self.queue.folder / 'logs'}.",
            )
        if (missing := wanted - len(self.handles)) > 0:
            with plugin_errors(entry):
                started = list(plugin.start(ctx, self._launch(), missing))
            self.queue.add_workers(entry.name, ctx.resolved.dump(), started)
            self.handles += started

    def end(self) -> None:
        """Let workers give back their cells and end."""
        with plugin_errors(self.executor.entry):
            self.executor.plugin.cancel(self.executor.ctx, self.handles)
        deadline = time.monotonic() + GRACE
        while self.running() and time.monotonic() < deadline:
            time.sleep(LOOK / 2)

    def running(self) -> list[str]:
        """Return the handles of those that run or wait."""
        with plugin_errors(self.executor.entry):
            return list(self.executor.plugin.running(self.executor.ctx, self.handles))

    def _launch(self) -> Launch:
        inherited = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
        return Launch(
            command=(sys.executable, "-m", "ddbench", "worker", str(self.queue.folder)),
            environment={**inherited, "DDBENCH_HOME": str(home())},
            folder=self.queue.folder,
            name=str(self.queue.about["name"]),
        )

    def _last_words(self) -> str:
        logs = [path for path in (self.queue.folder / "logs").iterdir() if not path.stem.isdigit()]
        return last_line(max(logs, key=lambda path: path.stat().st_mtime)) if logs else ""


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, or ""."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith("  →")), "")


def cancel(queue: Queue, ctx: Context) -> tuple[int, list[str]]:
    """End the workers of a run and its drivers; return how many workers there were, and the hosts that still have some.

    Workers that end with their command are known on its host alone; elsewhere they end when their cells have.

    Args:
        queue: its folder.
        ctx: with the plugins of the run.
    """
    queue.stop()
    workers, count, hosts, here = queue.workers(), 0, set[str](), platform.node()
    for name in {worker["executor"] for worker in workers}:
        mine = [worker for worker in workers if worker["executor"] == name]
        explicit = {f"executor/{name}": mine[-1]["options"]}
        crew = Crew(queue, replace(ctx, explicit=explicit).use("executor", name))
        count += len(crew.running())
        crew.end()
        if not crew.executor.plugin.detaches:
            hosts |= {worker.get("host", here) for worker in mine} - {here}
    return count, sorted(hosts) if queue.running() else []
