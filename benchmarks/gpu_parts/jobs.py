"""Jobs in processes of their own: started one or several at a time, ended when their time is over, never done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: Seconds a job has to end by itself after SIGTERM, and that are kept for the report.
GRACE = 8.0


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        part: that it belongs to.
        what: was measured or compared.
        figures: by name; times are in the units that their names say.
        ok: whether it is as it should be; None where nothing is judged.
        note: in words, e.g. an error.
    """

    part: str
    what: str
    figures: dict[str, Any] = field(default_factory=dict)
    ok: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """Where results go, and what they are of.

    Attributes:
        out: folder of results.
        device: that is checked.
        tiny: smallest settings.
        deadline: when all must have ended (seconds since the epoch).
    """

    out: Path
    device: str
    tiny: bool
    deadline: float

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()


@dataclass(frozen=True)
class Job:
    """A piece of a part in a process of its own.

    Attributes:
        part, name: its part, and what its files are called.
        work: yields rows.
        seconds: that it may take at most.
        alone: whether nothing else may run meanwhile.
        home: its artifact folder below the results, shared by jobs that name the same.
        threads: of torch on the CPU.
    """

    part: str
    name: str
    work: Callable[[Setting], Iterator[Row]]
    seconds: float
    alone: bool = False
    home: str = ""
    threads: int = 2

    def file(self, out: Path) -> Path:
        """Return the file of its rows; with a last line ``{}`` when it has ended."""
        return out / "rows" / f"{self.name}.jsonl"

    def rows(self, out: Path) -> list[Row]:
        """Return the rows it has yielded so far."""
        return [Row(**line) for line in self._lines(out) if line]

    def ended(self, out: Path) -> bool:
        """Whether it came to its end, in this run or an earlier one."""
        return {} in self._lines(out)

    def _lines(self, out: Path) -> list[dict[str, Any]]:
        file = self.file(out)
        if not file.exists():
            return []
        whole = file.read_text("utf-8").rpartition("\n")[0]  # a kill may cut the last line
        return [json.loads(line) for line in whole.splitlines()]


def carry_out(job: Job, setting: Setting) -> None:
    """Do a job in this process; an error is a row as well, and the job is then done again by the next run."""
    file = job.file(setting.out)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as lines:

        def write(content: dict[str, Any]) -> None:
            lines.write(json.dumps(content) + "\n")
            lines.flush()

        try:
            for row in job.work(setting):
                write(asdict(row))
        except Exception as error:
            traceback.print_exc()
            write(asdict(Row(job.part, job.name, ok=False, note=f"{type(error).__name__}: {error}"[:300])))
            return
        write({})


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    until: float
    told: int = 0


class Runner:
    """Runs jobs in order.

    Args:
        setting: where results go.
        command: that started this run; ``--job NAME`` makes it do one.
    """

    def __init__(self, setting: Setting, command: list[str]) -> None:
        self.setting, self.command = setting, command
        self.jobs: list[Job] = []
        self._running: list[_Running] = []
        self._late: list[Row] = []
        self._most = 1 if setting.tiny else max(2, (os.cpu_count() or 2) // 2)

    def run(self, jobs: list[Job]) -> list[str]:
        """Run what has not ended in an earlier run; return the names of jobs for which there was no time."""
        self.jobs, left_out = jobs, []
        for number, job in enumerate(jobs, 1):
            if job.ended(self.setting.out):
                print(f"[{number}/{len(jobs)}] {job.name}: done before", flush=True)
                continue
            self._wait(0 if job.alone else self._most - 1)
            if self.setting.left < 2 * GRACE:
                left_out.append(job.name)
                continue
            print(f"[{number}/{len(jobs)}] {job.name}", flush=True)
            self._start(job)
            if job.alone:
                self._wait(0)
        self._wait(0)
        return left_out

    def rows(self) -> list[Row]:
        """Return all rows, in the order of the jobs."""
        return [row for job in self.jobs for row in job.rows(self.setting.out)] + self._late

    def _start(self, job: Job) -> None:
        out = self.setting.out
        log = out / "logs" / f"{job.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "DDBENCH_HOME": str(out / "homes" / (job.home or job.name)),
            "OMP_NUM_THREADS": "1" if self.setting.tiny else str(job.threads),
        }
        seconds = min(job.seconds, self.setting.left - GRACE)
        words = [*self.command, "--job", job.name, "--seconds", str(seconds)]
        with log.open("wb") as file:
            process = subprocess.Popen(
                words, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        self._running.append(_Running(job, process, time.time() + seconds))

    def _wait(self, most: int) -> None:
        """Wait until no more than ``most`` jobs run; end those that are out of time."""
        while True:
            for each in list(self._running):
                self._tell(each)
                if each.process.poll() is not None:
                    self._running.remove(each)
                    if each.process.returncode:
                        self._miss(each.job, f"ended with {each.process.returncode}, see logs/{each.job.name}.txt")
                elif time.time() > each.until:
                    end(each.process)
                    self._running.remove(each)
                    self._tell(each)
                    self._miss(each.job, "out of time")
            if len(self._running) <= most:
                return
            time.sleep(0.1)

    def _tell(self, running: _Running) -> None:
        rows = running.job.rows(self.setting.out) if running.job.file(self.setting.out).exists() else []
        for row in rows[running.told :]:
            figures = ", ".join(f"{name} {shown(value)}" for name, value in row.figures.items())
            print(f"    {row.part}: {row.what}: {'LOOK ' * (row.ok is False)}{figures} {row.note}".rstrip(), flush=True)
        running.told = len(rows)

    def _miss(self, job: Job, why: str) -> None:
        print(f"    {job.name}: {why}", flush=True)
        self._late.append(Row(job.part, job.name, note=why, ok=None if why == "out of time" else False))


def end(process: subprocess.Popen[bytes]) -> None:
    """End a job and all that it started: by SIGTERM, on which commands of ddbench keep their state, then by SIGKILL."""
    for number, seconds in ((signal.SIGTERM, GRACE / 2), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def shown(value: Any) -> str:
    """Write a figure for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
