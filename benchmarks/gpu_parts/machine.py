"""What the machine is, and the figures by which the speed of everything else is judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpu_parts.jobs import Job, Row, Setting

PART = "machine"


def jobs(setting: Setting) -> list[Job]:
    """Return the one job."""
    return [Job(PART, "machine", work, 90, alone=True)]


def work(setting: Setting) -> Iterator[Row]:
    """Yield versions, rates of matrix products, bandwidth, and what a launch and a copy of few numbers cost."""
    import torch
    from student_loop import fastest, peak

    import ddbench

    device, large = setting.device, setting.on_gpu
    chosen = ddbench.Machine.choose("auto")
    yield Row(PART, "card", about(device), ok=chosen.device.startswith("cuda") == large or not large)
    seconds, side = (0.5, 8192) if large else (0.05, 256)
    for precision in ("bf16", "fp16", "fp32") if large else ("bf16", "fp32"):
        torch.backends.cuda.matmul.allow_tf32 = False
        yield Row(PART, f"matrix product {precision}", {"TFLOP/s": peak(precision, seconds, side, device) / 1e12})
    if large:
        torch.backends.cuda.matmul.allow_tf32 = True
        yield Row(PART, "matrix product fp32 with TF32", {"TFLOP/s": peak("fp32", seconds, side, device) / 1e12})
    x = torch.empty(2**28 if large else 2**20, device=device)
    y = torch.empty_like(x)
    yield Row(PART, "copy on the device", {"GB/s": 2e-9 * x.nbytes / fastest(lambda: y.copy_(x), seconds, device)})
    few = torch.zeros(64, device=device)

    def launches() -> None:
        for _ in range(1000):
            few.add_(1)

    yield Row(PART, "a small kernel, launched from Python", {"µs": 1e3 * fastest(launches, seconds, device)})
    host = torch.zeros(64)
    yield Row(PART, "64 numbers to the device", {"µs": 1e6 * fastest(lambda: host.to(device), seconds, device)})


def about(device: str) -> dict[str, Any]:
    """Return the card's name and memory, and versions, as far as there are any."""
    import platform

    import torch

    import ddbench

    found = {"ddbench": ddbench.__version__, "python": platform.python_version(), "torch": torch.__version__}
    if not device.startswith("cuda"):
        return {"card": "none", **found}
    properties = torch.cuda.get_device_properties(device)
    return {
        "card": properties.name,
        "GB": properties.total_memory / 1e9,
        "driver": driver(),
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        **found,
    }


def driver() -> str:
    """Return the driver's version by ``nvidia-smi``; empty where that is not there."""
    import subprocess

    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return ""
