"""What workers cost and gain: the overhead of a cell, thousands of cells, workers and commands side by side.

python benchmarks/scale_out.py cells [--cells 10000] [--workers 8]   a method that takes 0 s
python benchmarks/scale_out.py workers [--epochs 1000]     two workers with a thread each, against one
python benchmarks/scale_out.py commands [--epochs 1000]    two commands at once, against one after the other

The file is the plugin of its own runs. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import ddbench

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Nothing(ddbench.Distiller):
    """Keeps the first images of each class."""

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return IPC images of each class."""
        train = ctx.dataset.train
        rows = np.concatenate([train.of_class(label)[: ctx.ipc] for label in range(ctx.dataset.num_classes)])
        return ddbench.DistilledSet(train.images.batch(rows, ctx.dataset.image_size), train.labels[rows])


class Constant(ddbench.Evaluator):
    """Answers with the first class."""

    default_network = "convnet-3"
    default_repeats = 1

    def protocol(self, ctx: ddbench.Context, distilled: ddbench.DistilledSet) -> ddbench.Protocol:
        """Return settings that mean nothing."""
        return ddbench.Protocol({"network": ctx.network, "label_type": "hard", "selection": "last"})

    def evaluate(self, ctx: ddbench.Context, distilled: ddbench.DistilledSet, repeat: int) -> ddbench.Score:
        """Return the share of the first class."""
        correct = ctx.dataset.arrays("test")[1] == 0
        return ddbench.Score(last=float(correct.mean()), correct=correct)


@ddbench.hookimpl
def ddbench_methods() -> list[ddbench.MethodSpec]:
    """Return the method that takes no time."""
    return [ddbench.MethodSpec("nothing", Nothing)]


@ddbench.hookimpl
def ddbench_evaluators() -> list[ddbench.EvaluatorSpec]:
    """Return the evaluator that takes no time."""
    return [ddbench.EvaluatorSpec("constant", Constant)]


def run(home: Path, *words: str, threads: int = 0) -> subprocess.Popen[str]:
    """Start a command in an artifact folder and a registry."""
    environment = {**os.environ, "DDBENCH_HOME": str(home)}
    environment |= {name: str(threads) for name in THREADS} if threads else {}
    command = [sys.executable, "-m", "ddbench", "run", *words, "--registry", str(home / "registry")]
    return subprocess.Popen(command, env=environment, cwd=home, text=True, stdout=subprocess.DEVNULL)


def ended(process: subprocess.Popen[str]) -> float:
    """Wait for a process; return its processor time in seconds."""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"a command failed: {status}")
    return used.ru_utime + used.ru_stime


def peak(process: subprocess.Popen[str]) -> float:
    """Return the most memory in MB that a process has held, without its children; 0 when it has ended."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def cells(home: Path, count: int, workers: int) -> dict[str, object]:
    """Run cells that take no time; return what a driver and a cell cost."""
    seeds = ",".join(map(str, range(count)))
    start = time.perf_counter()
    words = ("-m", "nothing", "-e", "constant", "--ipc", "1", "--seed", seeds, "--plugin", __file__, "-q")
    driver = run(home, *words, "--jobs", str(workers))
    planned, most = 0.0, 0.0
    while held := peak(driver):
        most = max(most, held)
        if not planned and list(home.glob("runs/*/outcomes")):
            planned = time.perf_counter() - start
        time.sleep(0.1)
    ended(driver)
    whole = time.perf_counter() - start
    times = [json.loads(path.read_text())["at"] for path in home.glob("runs/*/outcomes/*.json")]
    spent = max(times) - min(times)
    return {
        "cells": len(times),
        "workers": workers,
        "seconds": round(whole, 1),
        "planned after": round(planned, 1),
        "cells per second": round((len(times) - 1) / spent, 1),
        "driver MB": round(most),
    }


def workers(home: Path, epochs: int) -> dict[str, object]:
    """Train students of four cells by one worker and by two, with a thread each; return both times."""
    found = {}
    for count in (1, 2):
        folder = home / str(count)
        folder.mkdir()
        words = ("-m", "random", "-e", "minimax", "--seed", "0,1,2,3", "--repeats", "1", "-q")
        start = time.perf_counter()
        driver = run(folder, *words, "-o", f"eval.epochs={epochs}", "--jobs", str(count), threads=1)
        ended(driver)
        found[count] = time.perf_counter() - start
    return {
        "epochs": epochs,
        "one worker": round(found[1], 1),
        "two workers": round(found[2], 1),
        "gain": round(found[1] / found[2], 2),
    }


def commands(home: Path, epochs: int) -> dict[str, object]:
    """Run two ordinary commands one after the other and at once; return both times."""
    found, processor = [], []
    for at_once in (False, True):
        start = time.perf_counter()
        running, spent = [], 0.0
        for number in (1, 2):
            folder = home / f"{at_once}{number}"
            folder.mkdir()
            words = ("-m", "random", "-e", "minimax", "--seed", str(number), "--repeats", "1", "-q")
            running.append(run(folder, *words, "-o", f"eval.epochs={epochs}"))
            if not at_once:
                spent += ended(running.pop())
        spent += sum(map(ended, running))
        processor.append(spent)
        found.append(time.perf_counter() - start)
    return {
        "epochs": epochs,
        "one after the other": round(found[0], 1),
        "at once": round(found[1], 1),
        "lost": f"{found[1] / found[0] - 1:+.0%}",
        "lost processor time": f"{processor[1] / processor[0] - 1:+.0%}",
    }


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cells", "workers", "commands"))
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        measured = {
            "cells": lambda: cells(home, given.cells, given.workers),
            "workers": lambda: workers(home, given.epochs),
            "commands": lambda: commands(home, given.epochs),
        }[given.what]()
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
