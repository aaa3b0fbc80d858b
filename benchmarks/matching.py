"""Iterations per second of distribution matching: ddbench against the released loop (fp32, class by class).

Both sides run on random images of CIFAR-10's size, ten classes, ConvNet-3 of width 128, each in a process of its own on
all cores, in turn. ddbench computes as `ddbench run` does: bfloat16 where the processor multiplies it, channels-last.
Networks, batches and augmentation are made anew in every iteration, and counted. docs/benchmarks.md says more.

examples:
  python benchmarks/matching.py --seconds 20
  python benchmarks/matching.py --ipc 1,10,50 --seconds 60 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDES = ("ddbench", "released")
CLASSES, PER_CLASS, SIDE, CHANNELS, BATCH = 10, 500, 32, 3, 256
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
WARM_UP = 2


def main() -> int:
    """Run the benchmark, or (in a child process) one side of it."""
    args = arguments()
    if args.side:
        print(json.dumps(measure(args.side, int(args.ipc), args.seconds)))
        return 0
    print("| IPC | ddbench, iterations/s | released loop, iterations/s | ratio |\n|---|---|---|---|")
    for ipc in args.ipc.split(","):
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(args.rounds):
            for side in SIDES:
                found[side].append(one_side(side, ipc, args.seconds))
        ratios = [a / b for a, b in zip(*found.values(), strict=True)]
        cells = [statistics.median(values) for values in found.values()]
        span = f" ({min(ratios):.2f} to {max(ratios):.2f})" if args.rounds > 1 else ""
        print(f"| {ipc} | {cells[0]:.3f} | {cells[1]:.3f} | {statistics.median(ratios):.2f}{span} |", flush=True)
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    about, examples = __doc__.split("examples:")  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(
        description=about, epilog="examples:" + examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="per side and round (default: %(default)s)")
    parser.add_argument("--ipc", default="1", help="images per class, separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="pairs of runs per IPC (default: %(default)s)")
    parser.add_argument("--side", choices=SIDES, default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def one_side(side: str, ipc: str, seconds: float) -> float:
    """Run one side in a process of its own and return its iterations per second."""
    command = [sys.executable, __file__, "--side", side, "--ipc", ipc, "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rate: float = json.loads(done.stdout)["rate"]
    return rate


def measure(side: str, ipc: int, seconds: float) -> dict[str, Any]:
    """Return iterations per second of one side after a warm-up, over about ``seconds``."""
    step = ours(ipc) if side == "ddbench" else released(ipc)
    for _ in range(WARM_UP):
        step()
    started, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds or not done:
        step()
        done += 1
    return {"side": side, "ipc": ipc, "iterations": done, "rate": done / spent}


def random_images() -> Any:
    """Return uint8 images [N, S, S, C] and labels [N]."""
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (CLASSES * PER_CLASS, SIDE, SIDE, CHANNELS), np.uint8)
    return images, np.arange(CLASSES, dtype=np.int64).repeat(PER_CLASS)


def ours(ipc: int) -> Callable[[], float]:
    """Return ddbench's iteration."""
    import itertools

    from ddbench_plugins.matching.real_batches import RealImages
    from ddbench_plugins.matching.synthetic import SyntheticImages, initial_images
    from ddbench_plugins.methods.dm.matching import DistributionMatching, Matching
    from ddbench_plugins.networks import convnet
    from ddbench_plugins.training.dsa import STRATEGY
    from ddbench_plugins.training.memory import keep_freed_memory
    from ddbench_plugins.training.seeding import seeded

    import ddbench

    images, labels = random_images()
    split = ddbench.Split(ddbench.ArrayImages(images), labels, tuple(map(str, range(len(labels)))))
    names = tuple(f"class {label}" for label in range(CLASSES))
    data = ddbench.Dataset("random", names, names, SIDE, MEAN, STD, split, split, "random", "random numbers")

    def network(number: int) -> Any:
        import torch

        with seeded(number):
            made = convnet.build(in_channels=CHANNELS, image_size=SIDE, num_classes=CLASSES)
        return made.to(memory_format=torch.channels_last).train()

    keep_freed_memory()
    real = RealImages(data)
    synthetic = SyntheticImages(initial_images(real, ipc, "real", 0), ipc, 1.0)
    precision = ddbench.Machine.choose().precision
    settings = Matching(batch_real=BATCH, strategy=STRATEGY, bn_joint=True, precision=precision, seed=0)
    work, numbers = DistributionMatching(synthetic, real, network, settings), itertools.count()
    return lambda: work.step(next(numbers))


def released(ipc: int) -> Callable[[], float]:
    """Return the released loop's iteration."""
    import numpy as np
    import torch
    from released.common import Task
    from released.dm_loop import Loop

    images, labels = random_images()
    shape = (1, CHANNELS, 1, 1)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255
    x = (x - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)
    members = [np.flatnonzero(labels == label) for label in range(CLASSES)]
    nowhere = Path()
    task = Task(nowhere, nowhere, SIDE, CHANNELS, CLASSES, ipc, MEAN, STD, flip=True, epochs=0)
    return Loop(task, x, members, BATCH).step


if __name__ == "__main__":
    sys.exit(main())
