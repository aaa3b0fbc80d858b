"""Workers on this machine: one per GPU, or several that share the cores."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from ddbench import Context, Executor, Launch, Options

#: What numerical libraries read before they make threads.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class LocalOptions(Options):
    """Options of the local executor."""

    workers: int = Field(0, ge=0, description="Workers at a time; 0 is one per GPU (times per_gpu), or one without.")
    per_gpu: int = Field(1, ge=1, description="Workers that share a GPU.")
    threads: int = Field(0, ge=0, description="Threads of each; 0 is its share of the cores, or OMP_NUM_THREADS.")


class Local(Executor):
    """One process per worker; handles are ``host:pid:slot``, where the slot decides which GPU it uses."""

    Options = LocalOptions

    def __init__(self) -> None:
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._found: list[str] = []

    def capacity(self, ctx: Context, cells: int) -> int:
        """Return the number of workers that was asked for."""
        return min(cells, self._workers(ctx))

    def start(self, ctx: Context, launch: Launch, count: int) -> list[str]:
        """Start processes that go on when this one is killed."""
        used = {int(handle.rpartition(":")[2]) for handle in {*self._started, *self._found} if self._lives(handle)}
        slots = [slot for slot in range(len(used) + count) if slot not in used][:count]
        (launch.folder / "logs").mkdir(parents=True, exist_ok=True)
        return [self._one(ctx, launch, slot) for slot in slots]

    def running(self, ctx: Context, handles: Sequence[str]) -> Collection[str]:
        """Return the processes that are there."""
        self._found = [handle for handle in handles if self._lives(handle)]
        return self._found

    def cancel(self, ctx: Context, handles: Sequence[str]) -> None:
        """Send SIGTERM."""
        for handle in self.running(ctx, handles):
            with contextlib.suppress(ProcessLookupError):
                os.kill(_pid(handle), signal.SIGTERM)

    def why(self, ctx: Context, handle: str) -> str:
        """Return the signal that ended a process of this one."""
        code = self._started[handle].poll() if handle in self._started else None
        return signal.Signals(-code).name if code is not None and code < 0 else ""

    def _workers(self, ctx: Context) -> int:
        return int(ctx.options.workers or len(gpus()) * ctx.options.per_gpu or 1)

    def _one(self, ctx: Context, launch: Launch, slot: int) -> str:
        with (launch.folder / "logs" / f"worker-{slot}.log").open("ab") as log:
            process = subprocess.Popen(
                launch.words(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **launch.environment, **self._share(ctx, slot)},
                start_new_session=True,
            )
        handle = f"{platform.node()}:{process.pid}:{slot}"
        self._started[handle] = process
        return handle

    def _share(self, ctx: Context, slot: int) -> Mapping[str, str]:
        """Return a worker's GPU and threads; what the user has set in the environment stays."""
        workers, devices = self._workers(ctx), gpus()
        fair = max(1, cores() // workers)
        count = str(ctx.options.threads or os.environ.get("OMP_NUM_THREADS", fair))
        share = {name: count for name in THREADS if ctx.options.threads or name not in os.environ}
        if devices:
            share["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
        return share

    def _lives(self, handle: str) -> bool:
        if handle in self._started:
            return self._started[handle].poll() is None
        host, pid, _ = handle.rsplit(":", 2)
        if host != platform.node():
            return False
        try:
            return {b"ddbench", b"worker"} <= {*Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")}
        except OSError:
            if Path("/proc/self").exists():
                return False
        try:
            os.kill(int(pid), 0)
        except OSError:
            return False
        return True


def _pid(handle: str) -> int:
    return int(handle.rsplit(":", 2)[1])


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip()]
    return [str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
