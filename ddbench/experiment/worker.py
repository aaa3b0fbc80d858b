"""A worker of a run: takes one cell after the other, never waits for a step that another one makes, and helps."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ddbench.errors import DDBenchError, PluginError, UsageError
from ddbench.experiment import jobs, setup
from ddbench.experiment.dry_run import steps
from ddbench.experiment.jobs import Job
from ddbench.experiment.pipeline import artifact, distil, finished, train_ahead
from ddbench.experiment.queue import DONE, FAILED, Queue
from ddbench.experiment.study import command_words, of_command
from ddbench.files.locks import Taken, leased
from ddbench.results.exchange import path_of
from ddbench.results.schema import Record
from ddbench.runtime import environment
from ddbench.runtime.progress import LineReporter
from ddbench.runtime.store import StepTaken, lease_of, owner

#: Seconds between two looks for a cell that can be run: at first, and at most.
PAUSE, LONGEST = 0.1, 3.0
#: Data sets that stay in memory.
DATASETS = 2
#: Seconds that a cell gets to be given back before a worker that was told to end is interrupted again.
AGAIN = 10.0

Explain = Callable[[Exception], tuple[str, str, int]]


def work(folder: Path, explain: Explain, cells: int | None = None) -> None:
    """Run cells until none is left, or none that this process may begin.

    Args:
        folder: of the run.
        explain: returns an error as a message, what to do about it, and the exit code.
        cells: how many at most.

    Raises:
        UsageError: this worker is of another version than the run.
    """
    signal.signal(signal.SIGTERM, _Interrupt())
    Worker(Queue(folder), explain).run(cells)


class _Interrupt:
    """Interrupts this process at SIGTERM, and again while it does not end: a library may have swallowed it."""

    def __init__(self) -> None:
        self.last = -math.inf

    def __call__(self, *_: object) -> None:
        now = time.monotonic()
        if now < self.last + AGAIN / 2:
            return  # whoever told us twice; the claim is being given back
        self.last = now
        again = threading.Timer(AGAIN, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()
        raise KeyboardInterrupt


class Worker:
    """Runs cells of a queue."""

    def __init__(self, queue: Queue, explain: Explain) -> None:
        self.queue, self.explain = queue, explain
        about = queue.about
        os.chdir(about["folder"])
        machine = {name: about[name] for name in ("device", "precision", "offline")}
        if machine["offline"]:
            environment.forbid_network()
        self.base = setup.context(about["plugins"], reporter=LineReporter(), **machine)
        self.base.store.waits = False
        queue.check(self.base.plugins)
        self._ended = 0
        self._spoilt = False
        self._needs: dict[int, list[Path]] = {}
        self._unhelped: set[int] = set()
        self._loaded: dict[str, Any] = {}

    def run(self, cells: int | None) -> None:
        """Take cells in their order; one that cannot be run yet is looked at again later."""
        left = list(range(1, len(self.queue.tasks) + 1))
        pause, look_closely = PAUSE, False

        def going() -> bool:
            return not (self._spoilt or self.queue.stopped or (cells is not None and self._ended >= cells))

        while left and going():
            before, kept = self._ended, []
            for number in left:
                if self.queue.ended(number):
                    continue
                # Whether the worker of a cell still lives is asked only when there is nothing else to do.
                if not going() or (self.queue.claimed(number) and not look_closely) or not self._take(number):
                    kept.append(number)
            look_closely = self._ended == before
            left = kept
            if self._ended > before or (going() and any(map(self._help, left))):
                pause = PAUSE
            elif left and going():
                self.base._loaded.clear()  # a model of shards that others make
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, LONGEST)

    def _take(self, number: int) -> bool:
        """Run a cell unless another worker has it or one of its steps; return whether it has ended."""
        if any(map(_in_the_making, self._needs.get(number, ()))):
            return False
        with self.queue.claim(number) as mine:
            if not mine:
                return self.queue.ended(number)
            with printing_to(self.queue.log(number)):
                return self._ran(number)

    def _ran(self, number: int) -> bool:
        start = time.perf_counter()
        try:
            record = self._record(number)
        except StepTaken as taken:
            self.base.reporter.log(f"given back: {taken}")
            if (known := self._needs.get(number)) and taken.path not in known:  # a shard
                known.append(taken.path)
            return False
        except Exception as error:  # whatever it is, the other cells go on
            traceback.print_exc()
            message, hint, code = self.explain(error)
            self.queue.end(number, state=FAILED, message=message, hint=hint, code=code)
            # A GPU that has failed, or data that a plugin changed, would harm the cells that follow.
            self._spoilt = isinstance(error, PluginError) or not isinstance(error, DDBenchError)
        else:
            path = path_of(record, Path(self.queue.about["registry"]))
            seconds = round(time.perf_counter() - start, 3)
            result = {"record": str(path), "digest": record.digest, "accuracy": record.accuracy, "seconds": seconds}
            self.queue.end(number, state=DONE, **result)
        self._ended += 1
        return True

    def _record(self, number: int) -> Record:
        job, about = self._job(number), self.queue.about
        if number not in self._needs:
            self._needs[number] = [step.path for step in steps(job)]
        if missing := next(filter(_in_the_making, self._needs[number]), None):
            raise StepTaken(missing.parent.name, missing, owner(missing.with_name(missing.name + ".partial")))
        with environment.command_of(command_words(job.arguments, about)), self._dividing(number):
            made = distil(job.planned.method, force=about["force"])
            self.queue.share(number)
            return job.measurement.carry_out(made, Path(about["registry"]), force=about["force"])

    @contextlib.contextmanager
    def _dividing(self, number: int) -> Iterator[None]:
        """Let others know of steps of a claimed cell that are made in shards."""
        store = self.base.store
        silent, store.divides = store.divides, partial(self.queue.share, number)
        try:
            yield
        finally:
            store.divides = silent

    def _job(self, number: int) -> Job:
        task = self.queue.tasks[number - 1]
        while len(self._loaded) > DATASETS:
            del self._loaded[next(iter(self._loaded))]
        expansion = jobs.expand(of_command(task.arguments), self.base, loaded=self._loaded)
        for failure in expansion.failures:
            raise failure.error
        (job,) = expansion.jobs
        if job.mark != task.cell:
            raise UsageError(
                "This worker understands the cell differently than the command that planned it: its data set or its"
                " plugins are of another version.",
                hint="Let all machines use one environment and the same data, and start the run again.",
            )
        return job

    def _help(self, number: int) -> bool:
        """Make a shard that is missing in a cell of another worker, or the last network once its set is distilled."""
        step = self.queue.divided(number)
        if number in self._unhelped or not (step or (self.queue.shared(number) and not self.queue.about["force"])):
            return False
        with printing_to(self.queue.log(number)):
            try:
                job = self._job(number)
                needed = steps(job)
                if step:
                    root = self.base.store.root
                    return any(one.call.help() for one in needed if one.call and one.path == root / step)
                made = finished(job.planned.method, artifact(job.planned.method))
                if made is None or any(_in_the_making(one.path) for one in needed):
                    return False
                return train_ahead(job.measurement.evaluator, made, job.measurement.repeats)
            except StepTaken:
                return False
            except Exception:  # what the cell's own worker will meet, and tell
                self._unhelped.add(number)
                return False


def _in_the_making(final: Path) -> bool:
    """Return whether another process is building a step."""
    if final.exists() or not lease_of(final).exists():
        return False
    try:
        with leased(lease_of(final)):
            return False
    except Taken:
        return True


@contextlib.contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Append what this process and what it starts print to a file; a file that stays empty is removed."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, handle in enumerate(kept, 1):
            os.dup2(handle, number)
            os.close(handle)
