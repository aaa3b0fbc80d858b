"""A run as a folder that workers share: its cells as plain data, which are claimed by whom, and how each ended.

Each file is written by one process: ``run.json`` and ``cells.jsonl`` by whoever makes the folder,
``claims/<cell>.json`` and ``outcomes/<cell>.json`` by the worker that holds ``claims/<cell>.lease``, ``workers.jsonl``
by the driver that holds ``driver.lease``. What a cell prints is in ``logs/<cell>.log``.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ddbench
from ddbench.errors import UsageError
from ddbench.files.folders import whole_folder
from ddbench.files.locks import Taken, leased
from ddbench.files.writing import home, write_atomic
from ddbench.keys import digest
from ddbench.plugin.manager import Plugins
from ddbench.results.schema import slug
from ddbench.runtime.leftovers import RUNS

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
#: Workers that may die in one cell before it counts as failed; those that end cleanly do not count.
DEATHS = 10


@dataclass(frozen=True)
class Task:
    """A cell to run, as plain data.

    Attributes:
        title: in words.
        label, name: of the method in tables, and what the study calls it.
        arguments: the keys of a study that mean this cell alone.
        cell: digest of what is asked for; a worker that comes to another one is of another version.
        shares: steps that must be made first and that other cells need, too, by their folders below the artifact
            folder (as of the machine that planned the run).
    """

    title: str
    label: str
    name: str
    arguments: Mapping[str, Any]
    cell: str
    shares: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """How a cell is.

    Attributes:
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        about: of a running one, its worker and since when; of the others, its outcome.
    """

    number: int
    title: str
    state: str
    about: Mapping[str, Any]
    log: Path


class Queue:
    """The folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._outcomes: dict[int, Mapping[str, Any]] = {}
        self._made: set[str] = set()

    @classmethod
    def create(cls, name: str, tasks: Sequence[Task], settings: Mapping[str, Any], plugins: Plugins) -> Queue:
        """Return the folder of a run, made unless it is there: the same cells and settings have the same one.

        Args:
            name: in words.
            tasks: its cells.
            settings: what they have in common: registry, device, precision, plugin files, …
            plugins: those that are loaded; workers must have the same.
        """
        about = {**settings, "versions": versions(plugins)}
        lines = [asdict(task) for task in tasks]
        queue = cls(home() / RUNS / f"{slug(name)[:60]}-{digest([about, lines])[:10]}")
        if not (queue.folder / "run.json").exists():
            with contextlib.suppress(UsageError), whole_folder(queue.folder) as folder:  # another driver is as good
                for part in ("claims", "outcomes", "logs"):
                    (folder / part).mkdir()
                (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
                (folder / "run.json").write_text(json.dumps({"name": name, **about}, indent=1), "utf-8")
        return queue

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What the cells have in common."""
        content: Mapping[str, Any] = json.loads((self.folder / "run.json").read_text("utf-8"))
        return content

    @cached_property
    def tasks(self) -> Sequence[Task]:
        """The cells; their numbers count from 1."""
        with (self.folder / "cells.jsonl").open(encoding="utf-8") as lines:
            return [Task(**json.loads(line)) for line in lines]

    def log(self, number: int) -> Path:
        """Return where what a cell prints goes."""
        return self.folder / "logs" / f"{number:06}.log"

    # Workers ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def claim(self, number: int) -> Iterator[bool]:
        """Hold a cell and yield True, or yield False where it has ended or another worker holds it.

        A claim is given back when the block ends; one that was not given back belongs to a worker that died.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(leased(self._claim(number, "lease")))
            except Taken:
                yield False
                return
            if self.ended(number):
                yield False
                return
            note = self._claim(number, "json")
            deaths = read(note).get("deaths", -1) + 1
            if deaths >= DEATHS:
                self.end(number, state=FAILED, message=f"{deaths} workers died in it.", hint="", code=1)
                yield False
                return
            note.write_text(json.dumps({"worker": worker(), "since": time.time(), "deaths": deaths}), "utf-8")
            try:
                yield True
            finally:
                note.unlink(missing_ok=True)

    def share(self, number: int, step: Path | None = None, shards: int = 0) -> None:
        """Note what others may do for a claimed cell: the shards of a step, or its networks once its set is distilled.

        Args:
            number: of the cell.
            step: the folder of the step; None where the set is distilled.
            shards: how many of the step are missing.
        """
        note = self._claim(number, "json")
        about = {"shards": [f"{step.parent.name}/{step.name}", shards]} if step else {"shared": True}
        note.write_text(json.dumps({**read(note), **about}), "utf-8")

    def shared(self, number: int) -> bool:
        """Return whether others may train networks of a cell that somebody runs."""
        several = self.tasks[number - 1].arguments["repeats"] > 1
        return several and bool(read(self._claim(number, "json")).get("shared"))

    def divided(self, number: int) -> str:
        """Return the step, by its folder below the artifact folder, whose shards others may make, or ""."""
        step, missing = read(self._claim(number, "json")).get("shards", ("", 0))
        return str(step) if missing else ""

    def claimed(self, number: int) -> bool:
        """Return whether a cell seems to be held, without a look at whether its worker lives."""
        return self._claim(number, "lease").exists()

    def end(self, number: int, **outcome: Any) -> None:
        """Note how a cell ended; the worker that holds it does."""
        write_atomic(self._outcome(number), json.dumps({"at": time.time(), "worker": worker(), **outcome}))

    def ended(self, number: int) -> bool:
        """Return whether a cell has ended."""
        return self._outcome(number).exists()

    @property
    def stopped(self) -> bool:
        """Whether no further cell is to be begun."""
        return (self.folder / "stop").exists()

    def check(self, plugins: Plugins) -> None:
        """Refuse a worker of another version than the run's.

        Raises:
            UsageError: what differs.
        """
        theirs, mine = self.about["versions"], versions(plugins)
        for name in {**theirs, **mine}:
            if theirs.get(name) != mine.get(name):
                raise UsageError(
                    f"This worker on {platform.node()} has {name} {mine.get(name, 'not at all')}, and the run was"
                    f" started with {theirs.get(name, 'none')}.",
                    hint="Let all machines use one environment, and start the run again.",
                )

    # Drivers ------------------------------------------------------------------------------------------------------

    def begin(self, *, retry: bool, again: bool) -> None:
        """Forget what keeps cells from being run.

        Args:
            retry: those that failed are run again.
            again: so are those that are done.
        """
        (self.folder / "stop").unlink(missing_ok=True)
        os.utime(self.folder / "run.json")  # the latest run is the one that was asked for last
        for number in set(_numbers(self.folder / "outcomes")) - self.outcomes().keys():
            self._outcome(number).unlink(missing_ok=True)  # nobody can read it
        for number, outcome in list(self.outcomes().items()):
            failed = outcome["state"] == FAILED
            if again or (retry if failed else not Path(outcome["record"]).exists()):
                self._outcome(number).unlink(missing_ok=True)
                self._claim(number, "json").unlink(missing_ok=True)
                del self._outcomes[number]

    def stop(self) -> None:
        """Let workers end with the cells that they have."""
        (self.folder / "stop").touch()

    def add_workers(self, executor: str, options: Mapping[str, Any], handles: Sequence[str]) -> None:
        """Note workers that this host started."""
        with (self.folder / "workers.jsonl").open("a", encoding="utf-8") as file:
            for handle in handles:
                about = {"executor": executor, "options": options, "handle": handle, "host": platform.node()}
                file.write(json.dumps(about) + "\n")

    def workers(self) -> list[dict[str, Any]]:
        """Return all workers that were ever started."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in (self.folder / "workers.jsonl").read_text("utf-8").splitlines()]
        return []

    def outcomes(self) -> dict[int, Mapping[str, Any]]:
        """Return how cells ended, as far as they have."""
        for number in _numbers(self.folder / "outcomes"):
            if number not in self._outcomes and (outcome := read(self._outcome(number))):
                self._outcomes[number] = outcome
        return self._outcomes

    def running(self) -> dict[int, Mapping[str, Any]]:
        """Return the claims of cells that have not ended."""
        claims, ended = sorted(_numbers(self.folder / "claims")), self.outcomes()
        notes = {number: read(self._claim(number, "json")) for number in claims if number not in ended}
        return {number: note for number, note in notes.items() if note}

    def states(self) -> Iterator[State]:
        """Yield how every cell is."""
        running, ended = self.running(), self.outcomes()
        for number, task in enumerate(self.tasks, 1):
            about = ended.get(number) or running.get(number) or {}
            state = about.get("state") or (RUNNING if about else WAITING)
            yield State(number, task.title, state, about, self.log(number))

    def startable(self) -> int:
        """Return for how many workers there is work: one of cells that wait for a step, or shards or networks."""
        ended, running = self.outcomes(), self.running()
        # What was there before the run is looked for once; what is made meanwhile, among the steps of running cells.
        looked = running if self._made else range(1, len(self.tasks) + 1)
        needed = {step for number in looked for step in self.tasks[number - 1].shares} - self._made
        self._made |= {"", *(step for step in needed if (self.folder.parents[1] / step).exists())}
        distilled = {number for number, note in running.items() if note.get("shared")}
        self._made |= {step for number in (*ended, *distilled) for step in self.tasks[number - 1].shares}
        making: set[str] = set()
        count = 0
        for number, task in enumerate(self.tasks, 1):
            if number in ended:
                continue
            needs = set(task.shares) - self._made
            if not needs & making:
                shards = running.get(number, {}).get("shards", ("", 0))[1]
                count += task.arguments["repeats"] if number in distilled else max(1, shards)
                making |= needs
        return count

    def _claim(self, number: int, kind: str) -> Path:
        return self.folder / "claims" / f"{number:06}.{kind}"

    def _outcome(self, number: int) -> Path:
        return self.folder / "outcomes" / f"{number:06}.json"


def queues() -> list[Queue]:
    """Return the runs of this artifact folder, the latest first."""
    made = [path for path in (home() / RUNS).glob("*/run.json") if not path.parent.name.startswith(".")]
    return [Queue(path.parent) for path in sorted(made, key=lambda path: path.stat().st_mtime, reverse=True)]


def _numbers(folder: Path) -> list[int]:
    """Return the cells that have a file in a folder."""
    with os.scandir(folder) as files:
        return [int(file.name[:6]) for file in files if re.fullmatch(r"\d{6}\.json", file.name)]


def worker() -> str:
    """Return the name of this process among the workers of a run."""
    return f"{platform.node()}:{os.getpid()}"


def versions(plugins: Plugins) -> dict[str, str]:
    """Return what all workers of a run must have in common."""
    return {"ddbench": ddbench.__version__} | {owner.name: owner.source or owner.origin for owner in plugins.owners}


def read(path: Path) -> dict[str, Any]:
    """Return a small file of plain data; nothing where it is not there or half written."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text("utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
