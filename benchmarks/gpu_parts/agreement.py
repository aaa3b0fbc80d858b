"""Every method and evaluator on the digits, on the CPU in fp32 and on the device in each precision, and how far apart.

Tolerances are :data:`APART` for images and :data:`LOSS` and :data:`ACCURACY` for students; where a device trains a
network that then chooses images, the distance is told and not judged.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gpu_parts import settings
from gpu_parts.jobs import Job, Row, Setting

PART = "agreement"
#: By precision: the largest distance of a method's images from the CPU's, relative to their deviation from their mean.
APART = {"fp32": 0.05, "bf16": 0.35, "fp16": 0.35}
#: By precision: how far the ratio of final losses may be from 1; and the difference of accuracies of any precision.
LOSS = {"fp32": 0.05, "bf16": 0.15, "fp16": 0.15}
ACCURACY = 0.08
#: Choose real images without a network, so that they are the same on any device.
SAME = ("random", "full", "k-means")
#: Choose by a network that each device trains itself.
TOLD = ("herding", "k-center")


def jobs(setting: Setting) -> list[Job]:
    """Return the teacher that all share, and a job for every device and precision."""
    precisions = ("fp32",) if setting.tiny else ("fp32", "bf16", "fp16")
    places = [("cpu", "fp32"), *((setting.device, precision) for precision in precisions if setting.on_gpu)]
    if not setting.on_gpu:
        places.append(("cpu", "bf16"))
    return [
        *([] if setting.tiny else [teacher_job()]),
        *(
            Job(PART, f"agreement-{name(*place)}", partial(work, *place), 400, threads=8 if place[0] == "cpu" else 2)
            for place in places
        ),
    ]


def teacher_job() -> Job:
    """Return the job of the teacher that all share."""
    return Job(PART, "teacher", teacher, 240, alone=True, home="teacher", threads=8)


def name(device: str, precision: str) -> str:
    """Return what a device and precision are called in file names."""
    return f"{device.partition(':')[0]}-{precision}"


def teacher_file(setting: Setting) -> Path:
    """Return where the shared teacher's weights are."""
    return setting.out / "found" / "teacher.safetensors"


def teacher(setting: Setting) -> Iterator[Row]:
    """Train one teacher of the digits, on the CPU in fp32."""
    import shutil
    from dataclasses import replace

    from ddbench_plugins.teachers import observers

    from ddbench.experiment import pipeline, setup

    ctx = setup.context(device="cpu", precision="fp32", offline=True)
    ctx = replace(ctx, _dataset=pipeline.load_dataset(ctx, "digits"))
    found = observers.get_teacher(ctx, settings.TEACHER_NETWORK)
    file = teacher_file(setting)
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found.done.dir / observers.WEIGHTS, file)
    yield Row(PART, "the teacher of the digits", {"accuracy": found.accuracy})


def work(device: str, precision: str, setting: Setting) -> Iterator[Row]:
    """Distil by every method and evaluate under every protocol; what comes out is kept for :func:`compared`.

    Yields a row for what fails, and one for all.
    """
    import ddbench
    from ddbench.plugin.manager import load_plugin, load_plugins

    begun, file, shared = time.perf_counter(), found_file(setting, device, precision), str(teacher_file(setting))
    file.unlink(missing_ok=True)
    refused = failed = 0
    where = {"device": device, "precision": precision, "offline": True}
    entries = load_plugins().entries["method"]
    for method in ("random", "dm") if setting.tiny else sorted(entries):
        if method not in settings.METHODS:
            why = settings.LEFT_OUT.get(method, "has no short settings (settings.py)")
            yield Row(PART, f"method {method} {device} {precision}", note=f"not run: {why}")
            continue
        try:
            options = {"method": settings.filled(settings.METHODS[method], shared)}
            (made,) = ddbench.distill(method, ipc=settings.IPC, options=options, **where)
        except ddbench.UsageError as error:
            if precision in load_plugin(entries[method]).precisions:
                failed += 1
                yield _failure(f"method {method} {device} {precision}", error)
            else:
                refused += 1  # as it is to be
            continue
        except Exception as error:
            failed += 1
            yield _failure(f"method {method} {device} {precision}", error)
            continue
        keep(file, f"method {method}", made.distilled.images)
    registry = setting.out / "registries" / name(device, precision)
    for label, (evaluator, given) in settings.EVALUATORS.items():
        if setting.tiny and label != "minimax":
            continue
        try:
            options = {"eval": settings.filled(given, shared)}
            (record,) = ddbench.run(
                "random", evaluator, ipc=settings.IPC, repeats=1, options=options, registry=registry, **where
            )
        except Exception as error:
            failed += 1
            yield _failure(f"evaluator {label} {device} {precision}", error)
            continue
        keep(file, f"evaluator {label}", [record.result.values[0], record.result.metrics[0].get("final_loss", 0.0)])
    count = len(read(file)) if file.exists() else 0
    figures = {"came to an end": count, "refused": refused, "failed": failed, "s": time.perf_counter() - begun}
    yield Row(PART, f"all methods and evaluators, {device} {precision}", figures, ok=not failed)


def _failure(what: str, error: Exception) -> Row:
    import traceback

    traceback.print_exception(error)
    return Row(PART, what, ok=False, note=f"{type(error).__name__}: {error}".partition("\n")[0][:300])


def found_file(setting: Setting, device: str, precision: str) -> Path:
    """Return the file with what came out on a device in a precision."""
    return setting.out / "found" / f"{name(device, precision)}.npz"


def keep(file: Path, what: str, values: Any) -> None:
    """Add an array to a file that :func:`read` reads; the process may be ended between any two."""
    import numpy as np

    file.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.save(content, np.asarray(values), allow_pickle=False)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"{what}.npy", content.getvalue())


def read(file: Path) -> dict[str, Any]:
    """Return the arrays of a file by name."""
    import numpy as np

    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def compared(setting: Setting) -> list[Row]:
    """Compare what came out on the device, in each precision, with what came out on the CPU in fp32."""
    base = found_file(setting, "cpu", "fp32")
    if not base.exists():
        return [Row(PART, "comparison", ok=False, note="nothing came out on the CPU")]
    ours, rows = read(base), []
    for file in sorted(base.parent.glob("*.npz")):
        if file != base:
            theirs, precision = read(file), file.stem.rpartition("-")[2]
            rows += [
                _compare(what, file.stem, precision, value, theirs[what])
                for what, value in ours.items()
                if what in theirs
            ]
    return rows


def _compare(what: str, place: str, precision: str, ours: Any, theirs: Any) -> Row:
    import numpy as np

    kind, _, label = what.partition(" ")
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if kind == "method":
        if a.shape != b.shape:
            return Row(PART, f"{what}, {place}", ok=False, note=f"shapes {a.shape} and {b.shape}")
        apart = float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a - a.mean())), 1e-12))
        limit = 0.0 if label in SAME else APART[precision]
        return Row(PART, f"{what}, {place}", {"apart": apart}, None if label in TOLD else apart <= limit)
    figures = {"accuracy": float(b[0]), "on the CPU": float(a[0])}
    ok = abs(figures["accuracy"] - figures["on the CPU"]) <= ACCURACY
    if a[1]:
        figures["ratio of losses"] = float(b[1] / a[1])
        ok = ok and abs(figures["ratio of losses"] - 1) <= LOSS[precision]
    return Row(PART, f"{what}, {place}", figures, ok)
