"""The main job, then cells of the papers at their full settings, as ordinary records that can be resumed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gpu_parts.jobs import Job, Row, Setting

PART = "cells"
#: Whose claims decide whether a number agrees.
PUBLISHED = Path(__file__).resolve().parents[2] / "registry"
DSA = ("-o", "eval.augment=dsa")
#: By label: the arguments of ``ddbench run`` on CIFAR-10, what is soonest done first; all at the papers' full settings.
CELLS: dict[str, tuple[str, ...]] = {
    "dm-1": ("-m", "dm", "--ipc", "1", *DSA),
    "dm-10": ("-m", "dm", "--ipc", "10", *DSA),
    "dm-50": ("-m", "dm", "--ipc", "50", *DSA),
    "dc-1": ("-m", "dc", "--ipc", "1"),
    "dsa-1": ("-m", "dsa", "--ipc", "1", *DSA),
    "random-dsa": ("-m", "random", "--ipc", "1,10,50", "--seed", "0,1,2", *DSA),
    "herding-dsa": ("-m", "herding", "--ipc", "1,10,50", *DSA),
    "dc-10": ("-m", "dc", "--ipc", "10"),
    "dsa-10": ("-m", "dsa", "--ipc", "10", *DSA),
    "mtt-1": ("-m", "mtt", "--ipc", "1", *DSA),
}
TINY = ("-m", "dm", "--ipc", "1", "-o", "method.iterations=4", "-o", "method.batch_real=8", "-o", "eval.epochs=2")


def jobs(setting: Setting) -> list[Job]:
    """Return the main job and the cells; those that are not done yet go on in the next run."""
    if setting.tiny:
        return [Job(PART, "cell-tiny", partial(work, "tiny"), 120, home="cells")]
    return [
        Job(PART, "main-job", main_job, 300, home="main-job"),
        *(Job(PART, f"cell-{name}", partial(work, name), 3600, home="cells") for name in CELLS),
    ]


def main_job(setting: Setting) -> Iterator[Row]:
    """Time ``ddbench run -m vlcp -e rded`` on the digits, as a newcomer types it, in an empty artifact folder."""
    begun = time.perf_counter()
    registry = setting.out / "registries" / "main"
    _run(["-m", "vlcp", "-e", "rded", "--device", setting.device, "--registry", str(registry)])
    yield from _records(registry, {"s": time.perf_counter() - begun})


def work(name: str, setting: Setting) -> Iterator[Row]:
    """Run one cell, or several of a method, and hold them against the published numbers."""
    preset = ["-d", "digits"] if name == "tiny" else ["-d", "cifar10", "--preset", "paper+official"]
    registry = setting.out / "registry"
    words = TINY if name == "tiny" else CELLS[name]
    _run([*words, "-e", "dc", *preset, "--device", setting.device, "--registry", str(registry)])
    yield from _records(registry, {}, words[1])


def _run(words: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "ddbench", "run", "--offline", *words], check=True)


def _records(registry: Path, figures: dict[str, float], method: str = "vlcp") -> Iterator[Row]:
    """Yield the records of a method, each with the verdict on the claims that it was measured for."""
    import ddbench
    from ddbench.results import claims
    from ddbench.tables import reproduced

    published = claims.read(PUBLISHED)
    found = ddbench.records(registry, method=method)
    pairs = reproduced.pairs(found, published.claims, claims.aliases(PUBLISHED))
    for record in found:
        about = {
            "accuracy, %": round(100 * record.mean, 2),
            "std": round(100 * record.std, 2) if len(record.result.values) > 1 else "",
            "networks": len(record.result.values),
            "distilled in, s": record.costs.distill_seconds or 0.0,
            "evaluated in, s": record.costs.evaluate_seconds,
            "precision": record.environment.get("precision", ""),
            "peak, GB": (record.costs.peak_bytes or 0) / 1e9,
        }
        place = record.relative_path().as_posix()
        mine = next((pair for pair in pairs if place in pair.records), None)
        told = {"published": mine.claim.text, "verdict": mine.verdict} if mine else {}
        cell = record.cell
        what = f"{method} on {cell.dataset['name']}, IPC {cell.ipc}, seed {cell.seed}, {cell.evaluator.name}"
        yield Row(PART, what, about | told | figures, None if mine is None or mine.smaller else mine.agrees)
