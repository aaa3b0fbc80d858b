"""Facts about the machine and the software that go into a record's environment block, never into its digest."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import ddbench
from ddbench import compiler

PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "timm", "numpy", "scikit-learn", "pillow")
#: The words of the command that is run, where they are not those of this process.
_words: list[str] = []


def forbid_network() -> None:
    """Keep the hub's libraries offline for the rest of this process, also where a plugin ignores ``offline``."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")


def quieten_hub() -> None:
    """Let the hub's library show no progress for the rest of this process."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


@contextlib.contextmanager
def command_of(words: Sequence[str]) -> Iterator[None]:
    """Let records name the command that makes the same by itself."""
    _words[:] = words
    try:
        yield
    finally:
        _words.clear()


def describe() -> dict[str, Any]:
    """Return versions, processor, git state of ddbench itself, and the command (without folders of this machine)."""
    return {
        **software(),
        "command": shlex.join(["ddbench", *map(_without_folder, _words or sys.argv[1:])]) if _is_cli() else "python",
    }


@cache
def software() -> dict[str, Any]:
    """Return what stays while a process runs."""
    return {
        "ddbench": ddbench.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads(),
        "kernels": "none" if compiler.obstacle() else "compiled",
        "compiler": compiler.described(),
    }


@cache
def card(device: str) -> dict[str, Any]:
    """Return the GPU of a device with what drives it, and how it chooses kernels; nothing for a CPU."""
    if not device.startswith("cuda"):
        return {}
    import torch

    described = {
        "name": torch.cuda.get_device_name(device),
        "driver": _driver(),
        "cuda": torch.version.cuda or "",
        "cudnn": str(torch.backends.cudnn.version() or ""),
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
        "cudnn_benchmark": bool(torch.backends.cudnn.benchmark),
        "deterministic": bool(torch.are_deterministic_algorithms_enabled()),
    }
    return {"gpu": described}


def _driver() -> str:
    try:
        line = Path("/proc/driver/nvidia/version").read_text("utf-8").partition("\n")[0]
    except OSError:
        return ""
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", line)
    return found[1] if found else ""


@cache
def computer() -> dict[str, Any]:
    """Return what the speed of a step depends on besides device and precision."""
    return {"processor": _processor(), "threads": threads()}


def threads() -> int:
    """Return the number of threads that torch takes: sums in another order change the last digits of a training."""
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(chosen), most) if chosen.isdigit() else most


def _is_cli() -> bool:
    return Path(sys.argv[0]).name in ("ddbench", "__main__.py")


def _without_folder(argument: str) -> str:
    """Keep the command readable without naming folders of this machine."""
    parts = re.split(r"([=:,])", argument)
    return "".join(Path(part).name if part.startswith(("/", "~", "..")) else part for part in parts)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _git() -> str:
    """Commit of the ddbench checkout (never of the folder the user is in); empty for an installed package."""
    root = Path(ddbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def launched() -> int:
    """Return the number of processes that a launcher started; 1 without one."""
    given = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if given else 1
