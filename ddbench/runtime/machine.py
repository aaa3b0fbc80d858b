"""The machine: device, precision, the numerics that results depend on, memory."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ddbench import compiler
from ddbench.errors import UsageError

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


@dataclass(frozen=True)
class Machine:
    """Where and how to compute.

    Attributes:
        device: torch device, e.g. ``cpu`` or ``cuda:0``.
        precision: ``fp32``, ``bf16`` or ``fp16`` of the mixed-precision parts; ``tf32``: fp32 with products in TF32.
        offline: never open a network connection.
    """

    device: str = "cpu"
    precision: str = "fp32"
    offline: bool = False

    def numerics(self) -> dict[str, str]:
        """Return what changes results in the last digits: part of the key of every step.

        Of the compilers only those that are missing; records tell of all. The number of threads and the processor
        change digits too; steps are shared between them, and records say with which they were made.
        """
        facts = {"device": self.device.partition(":")[0], "precision": self.precision}
        if self.device == "cpu":
            facts |= {"kernels": "none"} if compiler.obstacle() else {}
            facts |= {} if compiler.has_cxx() else {"torch.compile": "none"}
        elif deterministic():
            facts |= {"deterministic": "yes"}
        return facts

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto", offline: bool = False) -> Machine:
        """Resolve ``auto``: a GPU where there is one; bf16 where the processor multiplies it natively, else fp32.

        Raises:
            UsageError: a device that this machine does not have, or a precision that the device does not have.
        """
        if device == "auto":
            device = "cuda" if _has_gpu() else "cpu"
        elif device != "cpu":
            _try(device)
        if precision not in ("auto", *PRECISIONS):
            raise UsageError(f"Unknown precision {precision!r}.", hint=f"Choose one of auto, {', '.join(PRECISIONS)}.")
        if precision in ("fp16", "tf32") and not device.startswith("cuda"):
            raise UsageError(
                f"Trainings in {precision} are done on CUDA GPUs only, and this run is on {device!r}.",
                hint="Choose --precision bf16 or fp32, or --device cuda where there is one.",
            )
        if precision == "auto":
            precision = ("bf16" if _native_bf16() else "fp32") if device == "cpu" else "bf16"
        if device.startswith("cuda"):
            _set_up(precision)
        repeats_at_once(device), checkpoint_seconds()  # mistakes in them are said before anything is distilled
        return cls(device, precision, offline)


def repeats_at_once(device: str) -> int | None:
    """Return how many networks of a cell may be trained at once; None: as many as pay.

    ``DDBENCH_REPEATS_AT_ONCE``: ``auto`` or a number; one after the other on CPUs where it is not set.

    Raises:
        UsageError: it is neither.
    """
    asked = os.environ.get("DDBENCH_REPEATS_AT_ONCE", "")
    if asked == "auto" or (not asked and device.startswith("cuda")):
        return None
    if asked and (not asked.isdecimal() or int(asked) < 1):
        raise UsageError(
            f"DDBENCH_REPEATS_AT_ONCE is {asked!r}, not auto or a number of networks.", hint="1: one after the other."
        )
    return int(asked or 1)


def checkpoint_seconds() -> float:
    """Return how many seconds of work a kill may cost: ``DDBENCH_CHECKPOINT_SECONDS``, 20 where it is not set.

    0 is after every step, ``inf`` never.

    Raises:
        UsageError: it is no number, or a negative one.
    """
    asked = os.environ.get("DDBENCH_CHECKPOINT_SECONDS", "") or "20"
    try:
        seconds = float(asked)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        hint = "Use 0 (after every step) or more, or unset it for 20."
        raise UsageError(f"DDBENCH_CHECKPOINT_SECONDS is {asked!r}, no number of seconds.", hint=hint)
    return seconds


def deterministic() -> bool:
    """Return whether ``DDBENCH_DETERMINISTIC`` asks GPUs for the same digits every time."""
    return os.environ.get("DDBENCH_DETERMINISTIC", "") not in ("", "0")


def _set_up(precision: str) -> None:
    """Say how products are computed on GPUs, where torch's own choices change from one version to the next."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    # Batches have few shapes: trying cuDNN's kernels once for each pays, but another one may be the fastest next time.
    torch.backends.cudnn.benchmark = not deterministic()
    if deterministic():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic(), warn_only=True)


def _try(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except Exception as error:  # what torch raises depends on the device and on how torch was built
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"The device {device!r} cannot be used here: {reason}", hint="--device auto chooses an available one."
        ) from error


def _has_gpu() -> bool:
    if sys.platform == "linux" and not (Path("/proc/driver/nvidia").exists() or Path("/dev/kfd").exists()):
        return False  # importing torch takes seconds; a run that finds everything finished does without
    import torch

    return bool(torch.cuda.is_available())


def _native_bf16() -> bool:
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text("utf-8").split()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


@contextlib.contextmanager
def peak_memory(device: str) -> Iterator[Callable[[], dict[str, int]]]:
    """Measure peak memory of a block: the device's on a GPU, this process's high-water mark on a CPU (bytes)."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        import torch

        torch.cuda.reset_peak_memory_stats(device)

    def read() -> dict[str, int]:
        if on_gpu:
            import torch

            return {"peak_device_bytes": int(torch.cuda.max_memory_allocated(device))}
        with contextlib.suppress(ImportError):
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            return {"peak_process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
        return {}

    yield read
