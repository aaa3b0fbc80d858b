"""Whole evaluations by ddbench, three students each, beside the epochs of released evaluations on the same images."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

from gpu_parts.jobs import Job, Row, Setting

PART = "evaluations"
#: How many times as fast as the released evaluation ddbench is to be on a GPU.
GOALS = {"rded": 20.0, "minimax": 10.0, "dc": 10.0}
STUDENTS, IPC = 3, 10
#: Epochs of the released side; the first is left out, as it starts workers and compiles kernels.
EPOCHS = 8


def jobs(setting: Setting) -> list[Job]:
    """Return the one job."""
    return [Job(PART, "evaluations", work, 300, alone=True, threads=8)]


def work(setting: Setting) -> Iterator[Row]:
    """Yield seconds per student of both sides; the released one's by the median of its epochs, without tests."""
    import one_run
    import prepare

    import ddbench

    dataset = "digits"
    if not setting.tiny:
        with contextlib.suppress(ddbench.DataError):
            dataset = ddbench.load_dataset("cifar10").name
    folder = setting.out / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    made = prepare.prepare(folder, dataset, IPC, teacher=True)
    for protocol in ("dc",) if setting.tiny else GOALS:
        full = 2 if setting.tiny else one_run.default_epochs(protocol, made.size, made.ipc, made.classes)
        begun = time.perf_counter()
        ours = one_run.ours(protocol, made, folder, full, 0, repeats=STUDENTS, device=setting.device)
        spent = (time.perf_counter() - begun) / STUDENTS
        released = one_run.train_released(protocol, made, folder, 3 if setting.tiny else EPOCHS, 0, setting.device)
        theirs = full * statistics.median(released.seconds[1:])
        figures = {
            "epochs": full,
            "ddbench, s per student": spent,
            "released, s per student": theirs,
            "ratio": theirs / spent,
            "accuracy": ours["accuracy"],
            "precision": ours["precision"],
        }
        ok = theirs / spent >= GOALS[protocol] if setting.on_gpu else None
        yield Row(PART, f"{protocol} on {dataset}, IPC {IPC}", figures, ok, f"goal: {GOALS[protocol]:g} ×")
