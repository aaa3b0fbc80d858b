"""The training loop of students alone: milliseconds per step, and the share of the measured bf16 peak."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_parts.jobs import Job, Row, Setting

PART = "students"
#: Steps between two times that an epoch's figures are read.
BATCHES = 20


def jobs(setting: Setting) -> list[Job]:
    """Return the one job."""
    return [Job(PART, "students", work, 150, alone=True, threads=8)]


def work(setting: Setting) -> Iterator[Row]:
    """Yield a row for every case and precision."""
    from student_loop import CASES, Case, loop_rate, peak

    large = setting.on_gpu
    highest = peak("bf16", 0.5, 8192 if large else 256, setting.device)
    cases = [
        *CASES,
        Case("rded", "batch", 100, network="resnet"),
        Case("minimax", "instance", 64, 224, "resnet-ap"),
        Case("rded", "batch", 100, 224, "resnet"),
    ]
    for case in [Case("dc", "instance", 4, 16)] if setting.tiny else cases:
        small = case.side <= 64
        for precision in ("bf16", "fp32") if small and not setting.tiny else ("bf16",):
            batches = BATCHES if large and small else 2 if setting.tiny else 4
            rate, step = loop_rate(case, 1.5 if large else 0.01, setting.device, precision, batches)
            figures = {"ms per step": 1e3 * step, "TFLOP/s": rate / 1e12, "share of bf16 peak": rate / highest}
            yield Row(PART, f"{case.title}, {precision}", figures)
