"""Workers as jobs of a Slurm cluster, submitted as arrays by submitit."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import Field

from ddbench import Context, Executor, Launch, Options, UsageError
from ddbench_plugins.executors.local import THREADS

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

#: Slurm's own default of the length of an array.
MAX_ARRAY = 1001
#: What Slurm says of a submission that it would take at another time.
LATER = re.compile("timed out|unable to contact|try again|temporarily|MaxSubmit", re.IGNORECASE)
#: Jobs that one call of scancel names.
AT_ONCE = 500


class SlurmOptions(Options):
    """Options of the executor slurm; those without a description in words are sbatch's own."""

    partition: str = Field("", description="Partition (queue); empty for the cluster's default.")
    account: str = Field("", description="Account that is charged.")
    qos: str = Field("", description="Quality of service.")
    constraint: str = Field("", description="Features that nodes must have, such as a100|h100.")
    gres: str = Field("", description="Generic resources of a job, such as gpu:1.")
    cpus: int = Field(1, ge=1, description="Cores of a job, and threads of its worker.")
    mem: str = Field("", description="Memory of a job, such as 16G; empty for the cluster's default.")
    time: int = Field(60, ge=1, description="Minutes of a job; one that reaches them is queued again and goes on.")
    array_parallelism: int = Field(0, ge=0, description="Jobs that may run at a time; 0 for no limit.")
    cells_per_job: int = Field(1, ge=1, description="Cells that a job runs one after the other.")
    setup: tuple[str, ...] = Field((), description="Lines of shell before the worker, such as module load cuda.")
    sbatch: tuple[str, ...] = Field((), description="Further options of sbatch, such as reservation=course.")


class Slurm(Executor):
    """One job per worker; handles are Slurm's numbers of jobs.

    A job whose time ends, or that makes room for others, gives its cell back and is queued again. squeue tells how jobs
    are, which needs no accounting.
    """

    Options = SlurmOptions
    detaches = True
    interval = 15.0

    def __init__(self) -> None:
        self._running: Collection[str] = ()
        self._told = ""

    def check(self, ctx: Context) -> None:
        """Refuse where submitit or Slurm is missing, and options that Slurm does not take."""
        import submitit  # noqa: F401

        if not shutil.which("sbatch"):
            raise UsageError(
                "There is no sbatch on the path, so this is no machine of a Slurm cluster.",
                hint="Run the command on a login node; --jobs lets workers run on this machine.",
            )
        flags = [f"--{name}" if value is True else f"--{name}={value}" for name, value in _flags(ctx.options).items()]
        trial = _ran("sbatch", "--test-only", f"--time={ctx.options.time}", *flags, "--wrap=true")
        if trial.returncode:
            raise _refused(trial.stderr)

    def capacity(self, ctx: Context, cells: int) -> int:
        """Return the number of jobs for so many cells; Slurm decides when each runs."""
        jobs: int = ceil(cells / ctx.options.cells_per_job)
        return jobs

    def start(self, ctx: Context, launch: Launch, count: int) -> list[str]:
        """Submit jobs as arrays that are no longer than the cluster allows.

        The limit of an array holds for that array only: while jobs of another one are there, no more are submitted than
        may run beside them.
        """
        limit, handles = ctx.options.array_parallelism, list[str]()
        if limit and self._running:
            count = min(count, limit - len(self._running))
        while (left := count - len(handles)) > 0:
            after = handles[-1].partition("_")[0] if limit and handles else ""
            try:
                handles += _submitted(ctx.options, launch, min(left, _longest()), after)
            except _NotNow as reason:
                if str(reason) != self._told:
                    ctx.reporter.warn(f"Slurm takes no more jobs for now: {reason}")
                self._told = str(reason)
                break
        return handles

    def running(self, ctx: Context, handles: Sequence[str]) -> Collection[str]:
        """Return the jobs that squeue lists and that are not about to end; all, where it gives no answer."""
        answer = _ran("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T %r")
        if answer.returncode == 0:
            jobs = (line.split(" ", 2) for line in answer.stdout.splitlines())
            # A job that a node could not launch is held until an administrator looks at it.
            queued = {job for job, state, why in jobs if state != "COMPLETING" and why != "launch failed requeued held"}
            handles = [handle for handle in handles if handle in queued]
        self._running = handles
        return handles

    def cancel(self, ctx: Context, handles: Sequence[str]) -> None:
        """Let Slurm end jobs, which sends SIGTERM."""
        for first in range(0, len(handles), AT_ONCE):
            _ran("scancel", *handles[first : first + AT_ONCE])


class _NotNow(Exception):
    """Slurm takes no job at the moment."""


class Job:
    """What a job does, as submitit calls it: run the command of a worker, again if Slurm ends it before its end."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], patience: float) -> None:
        self.words, self.environment, self.patience = list(words), dict(environment), patience
        self.worker = 0
        self.told = False

    def __call__(self) -> NoReturn:
        """Run the worker and end with its exit code."""
        logging.getLogger("submitit").setLevel("WARNING")  # the last line of a log is the worker's
        signal.signal(signal.SIGTERM, self._end)
        self.worker = os.spawnve(os.P_NOWAIT, self.words[0], self.words, {**os.environ, **self.environment})
        code = os.waitstatus_to_exitcode(os.waitpid(self.worker, 0)[1])
        while self.told and _runs():  # a job that ends by itself is not queued again after a preemption
            time.sleep(1)
        sys.exit(code)

    def checkpoint(self) -> DelayedSubmission:
        """Let the worker give its cell back; submitit queues the job again.

        It is called in a signal handler, so it must not use the locks of :mod:`subprocess`.
        """
        from submitit.helpers import DelayedSubmission

        deadline = time.monotonic() + self.patience
        with contextlib.suppress(OSError):  # it has ended
            os.kill(self.worker, signal.SIGTERM)
            while os.waitpid(self.worker, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.1)
        return DelayedSubmission(self)

    def _end(self, *_: object) -> None:
        self.told = True
        with contextlib.suppress(OSError):
            os.kill(self.worker, signal.SIGTERM)


def _submitted(options: Any, launch: Launch, count: int, after: str) -> list[str]:
    """Submit jobs as one array, perhaps to begin when the jobs of another one have ended; return their numbers."""
    from submitit import JobEnvironment, SlurmExecutor
    from submitit.core.utils import FailedJobError

    early = min(60, 15 * options.time)  # seconds before its end at which a job is told
    environment = {**launch.environment, **{name: str(options.cpus) for name in THREADS}}
    job = Job(launch.words(options.cells_per_job), environment, early / 2)
    # The shell of the batch script becomes the process that gets the signal: no srun, which cannot be nested.
    python = f"exec {shlex.quote(sys.executable)}"
    executor = SlurmExecutor(launch.folder / "slurm", max_num_timeout=sys.maxsize, python=python)
    executor.update_parameters(
        job_name=launch.name,
        time=options.time,
        array_parallelism=options.array_parallelism or count,
        setup=list(options.setup),
        stderr_to_stdout=True,
        use_srun=False,
        wckey=None,
        additional_parameters={
            **_flags(options),
            "output": str(launch.folder / "logs" / "slurm-%j.log"),
            "signal": f"B:{JobEnvironment.USR_SIG}@{early}",
            **({"dependency": f"afterany:{after}"} if after else {}),
        },
    )
    try:
        with executor.batch():
            jobs = [executor.submit(job) for _ in range(count)]
    except FailedJobError as error:
        if LATER.search(str(error)):
            raise _NotNow(_reason(str(error))) from error
        raise _refused(str(error)) from error
    return [job.job_id for job in jobs]


def _flags(options: Any) -> dict[str, Any]:
    """Return options of sbatch by name."""
    named = {name: getattr(options, name) for name in ("partition", "account", "qos", "constraint", "gres", "mem")}
    further = (flag.removeprefix("--").partition("=") for flag in options.sbatch)
    return {
        **{name: value for name, value in named.items() if value},
        "cpus-per-task": options.cpus,
        "requeue": True,
        **{name: value if separator else True for name, separator, value in further},
    }


def _runs() -> bool:
    """Return whether Slurm lets this job run still, as it does in the grace time of a preemption."""
    return (
        _ran("squeue", "--noheader", "--format=%T", f"--jobs={os.environ['SLURM_JOB_ID']}").stdout.strip() == "RUNNING"
    )


def _longest() -> int:
    """Return the longest array that the cluster takes."""
    limit = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ran("scontrol", "show", "config").stdout, re.MULTILINE)
    return int(limit[1]) if limit else MAX_ARRAY


def _ran(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Slurm; one that is not there has failed."""
    try:
        return subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(words, 127, "", str(error))


def _reason(said: str) -> str:
    """Return why Slurm refuses, of all that sbatch says: its first error."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason is given"]
    first = next((line for line in lines if "error: " in line), lines[0])
    return re.sub(r"^(sbatch: |error: |allocation failure: |Batch job submission failed: )*", "", first)


def _refused(said: str) -> UsageError:
    return UsageError(
        f"Slurm refuses such a job: {_reason(said)}.",
        hint="`ddbench show slurm` lists its options, `sinfo` the partitions.",
    )
