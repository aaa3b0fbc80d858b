"""Workers as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ddbench import Context, Executor, Launch, Options, UsageError
from ddbench_plugins.executors.local import THREADS

#: Sends a signal to a process when the one that started it dies (prctl of Linux).
PR_SET_PDEATHSIG = 1
#: Seconds that a cluster gets to answer.
PATIENCE = 20.0


class RayOptions(Options):
    """Options of the executor ray."""

    address: str = Field("local", description="auto: the cluster of this machine; HOST:PORT; local: one started here.")
    workers: int = Field(0, ge=0, description="Workers at a time, also beyond what there is room for; 0 for what fits.")
    cpus: float = Field(1, gt=0, description="Cores of a worker, and its threads.")
    gpus: float | None = Field(None, ge=0, description="GPUs of a worker, also parts; none: 1 where there are any.")


class OnRay(Executor):
    """One task per worker; tasks of a lost node end, and others are started where there is room."""

    Options = RayOptions

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}

    def check(self, ctx: Context) -> None:
        """Connect, or refuse where Ray is missing or nobody answers."""
        import ray

        address = ctx.options.address
        host, _, port = address.rpartition("/")[2].rpartition(":")
        try:
            if port.isdigit():  # Ray itself would look for two minutes, and then end the process
                socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
            with _restored():
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (OSError, RuntimeError, ValueError, SystemExit) as error:
            reason = str(error).strip().splitlines()[0] if isinstance(error, Exception) else "it gives no answer"
            raise UsageError(
                f"No Ray cluster can be used at {address}: {reason}",
                hint="`ray status` shows the cluster of this machine; executor.address=local starts one.",
            ) from error

    def capacity(self, ctx: Context, cells: int) -> int:
        """Return the number of workers that was asked for, else for which the cluster has room now."""
        import ray

        there, needed = ray.cluster_resources(), _needed(ctx.options)
        room = min(int(there.get(name, 0) / amount) for name, amount in needed.items() if amount)
        return min(cells, ctx.options.workers or max(1, room))

    def start(self, ctx: Context, launch: Launch, count: int) -> list[str]:
        """Start tasks; Ray chooses their nodes, and keeps those for which there is no room yet."""
        import ray

        needed = _needed(ctx.options)
        task = ray.remote(num_cpus=needed["CPU"], num_gpus=needed["GPU"], max_retries=0)(_work)
        environment = {**launch.environment, **{name: str(int(max(1, needed["CPU"]))) for name in THREADS}}
        handles = [uuid.uuid4().hex[:8] for _ in range(count)]
        for handle in handles:
            log = str(launch.folder / "logs" / f"ray-{handle}.log")
            self._tasks[handle] = task.remote(launch.words(), environment, log)
        return handles

    def running(self, ctx: Context, handles: Sequence[str]) -> Collection[str]:
        """Return the tasks of this process that have not ended; those of others end with them."""
        import ray

        mine = {self._tasks[handle]: handle for handle in handles if handle in self._tasks}
        _, left = ray.wait(list(mine), num_returns=len(mine), timeout=0) if mine else ([], [])
        return [mine[task] for task in left]

    def cancel(self, ctx: Context, handles: Sequence[str]) -> None:
        """Interrupt tasks, which let their workers give cells back."""
        import ray

        for handle in handles:
            if handle in self._tasks:
                ray.cancel(self._tasks[handle], force=False)


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Keep reports of usage from Ray's makers unless the user wants them, and put back what Ray changes meanwhile."""
    handler, environment = signal.getsignal(signal.SIGTERM), dict(os.environ)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        os.environ.clear()
        os.environ.update(environment)


def _needed(options: Any) -> dict[str, float]:
    import ray

    gpus = options.gpus if options.gpus is not None else float("GPU" in ray.cluster_resources())
    return {"CPU": options.cpus, "GPU": gpus}


def _work(words: list[str], environment: Mapping[str, str], log: str) -> int:
    """Run the command of a worker on a node, and end it with this task."""
    # Ray cancels by SIGINT, which is ignored by all that a shell has started in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(log).open("ab") as file:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        while process.poll() is None:
            time.sleep(0.2)  # Ray's interrupt ends no system call
        return process.returncode
    finally:
        process.terminate()
        process.wait()  # until then its cores and GPUs are not free


def _end_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
