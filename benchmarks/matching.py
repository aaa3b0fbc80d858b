"""Iterations per second of dm, dc and mtt: ddbench against the released loop (fp32; class by class, mtt in one graph).

Both sides run on random images of CIFAR-10's size, ten classes, ConvNet-3 of width 128, each in a process of its own on
all cores, in turn. ddbench computes as `ddbench run` does (--precision auto: bfloat16 on a GPU and where the processor
multiplies it), channels-last.
Networks (of dm), batches and augmentation are made and counted in every iteration (docs/reference/benchmarks.md).

examples:
  python benchmarks/matching.py --seconds 20
  python benchmarks/matching.py --method mtt --seconds 60 --rounds 5
  python benchmarks/matching.py --ipc 1,10,50 --seconds 60 --rounds 5
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

SIDES = ("ddbench", "released")
CLASSES, PER_CLASS, SIDE, CHANNELS, BATCH = 10, 500, 32, 3, 256
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
SYN_STEPS = 50  # of mtt: the paper's at one image per class
LOOPS = {1: (1, 1), 10: (10, 50), 50: (50, 10)}  # of dc, outer and inner: the released ones by IPC
WARM_UP = 2


def main() -> int:
    """Run the benchmark, or (in a child process) one side of it."""
    args = arguments()
    if args.side:
        where = Where(args.device, args.precision)
        print(json.dumps(measure(args.side, int(args.ipc), args.seconds, args.method, where)))
        return 0
    print("| IPC | ddbench, iterations/s | released loop, iterations/s | ratio |\n|---|---|---|---|")
    for ipc in args.ipc.split(","):
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(args.rounds):
            for side in SIDES:
                found[side].append(one_side(side, ipc, args))
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
    parser.add_argument("--method", choices=METHODS, default="dm", help="what is timed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="per side and round (default: %(default)s)")
    parser.add_argument("--ipc", default="1", help="images per class, separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="pairs of runs per IPC (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="of ddbench: auto, fp32 or bf16 (default: %(default)s)")
    parser.add_argument("--side", choices=SIDES, default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def one_side(side: str, ipc: str, args: argparse.Namespace) -> float:
    """Run one side in a process of its own and return its iterations per second."""
    command = [sys.executable, __file__, "--side", side, "--ipc", ipc, "--seconds", str(args.seconds)]
    command += ["--method", args.method, "--device", args.device, "--precision", args.precision]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rate: float = json.loads(done.stdout)["rate"]
    return rate


@dataclass(frozen=True)
class Where:
    """On which device, and in which precision ddbench computes."""

    device: str = "cpu"
    precision: str = "auto"

    @property
    def resolved(self) -> str:
        """The precision that ``auto`` stands for."""
        import ddbench

        return ddbench.Machine.choose(self.device, self.precision).precision


def measure(side: str, ipc: int, seconds: float, method: str = "dm", where: Where | None = None) -> dict[str, Any]:
    """Return iterations per second of one side after a warm-up, over about ``seconds``.

    Every iteration ends with reading its loss, so a GPU has nothing left to do when the clock stops.
    """
    step = METHODS[method][SIDES.index(side)](ipc, where or Where())
    for _ in range(WARM_UP):
        float(step())
    started, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds or not done:
        float(step())
        done += 1
    return {"side": side, "ipc": ipc, "iterations": done, "rate": done / spent}


def random_images() -> Any:
    """Return uint8 images [N, S, S, C] and labels [N]."""
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (CLASSES * PER_CLASS, SIDE, SIDE, CHANNELS), np.uint8)
    return images, np.arange(CLASSES, dtype=np.int64).repeat(PER_CLASS)


def dataset() -> Any:
    """Return the images as a data set of ddbench."""
    import ddbench

    images, labels = random_images()
    split = ddbench.Split(ddbench.ArrayImages(images), labels, tuple(map(str, range(len(labels)))))
    names = tuple(f"class {label}" for label in range(CLASSES))
    return ddbench.Dataset("random", names, names, SIDE, MEAN, STD, split, split, "random", "random numbers")


def task(ipc: int, device: str) -> Any:
    """Return the task of a released loop."""
    from released.common import Task

    nowhere = Path()
    return Task(nowhere, nowhere, SIDE, CHANNELS, CLASSES, ipc, MEAN, STD, flip=True, epochs=0, device=device)


def network(number: int, device: str = "cpu") -> Any:
    """Return a ConvNet drawn from seed ``number``."""
    import torch
    from ddbench_plugins.networks import convnet
    from ddbench_plugins.training.seeding import seeded

    with seeded(number):
        made = convnet.build(in_channels=CHANNELS, image_size=SIDE, num_classes=CLASSES)
    return made.to(device=device, memory_format=torch.channels_last).train()


def our_dm(ipc: int, where: Where) -> Callable[[], float]:
    """Return ddbench's iteration of dm."""
    from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images
    from ddbench_plugins.methods.dm.matching import DistributionMatching, Matching
    from ddbench_plugins.training.dsa import STRATEGY
    from ddbench_plugins.training.memory import keep_freed_memory

    keep_freed_memory()
    real = RealImages(dataset(), device=where.device)
    synthetic = SyntheticImages(initial_images(real, ipc, "real", 0), ipc, 1.0)
    settings = Matching(batch_real=BATCH, strategy=STRATEGY, bn_joint=True, precision=where.resolved, seed=0)
    make = partial(network, device=where.device)
    work, numbers = DistributionMatching(synthetic, real, make, settings), itertools.count()
    return lambda: work.step(next(numbers))


def released_dm(ipc: int, where: Where) -> Callable[[], float]:
    """Return the released loop's iteration of dm."""
    from released.dm_loop import Loop

    return Loop(task(ipc, where.device), *normalised(where.device), BATCH).step


def normalised(device: str) -> tuple[Any, list[Any]]:
    """Return the images, float32 [N, C, S, S], as released loops keep them, and the positions of each class."""
    import numpy as np
    import torch

    images, labels = random_images()
    shape = (1, CHANNELS, 1, 1)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255
    x = (x - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)
    return x.to(device), [np.flatnonzero(labels == label) for label in range(CLASSES)]


def our_dc(ipc: int, where: Where) -> Callable[[], float]:
    """Return ddbench's matching step of dc, with the training of the network after it."""
    from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images
    from ddbench_plugins.methods.dc.matching import GradientMatching, Matching
    from ddbench_plugins.training.memory import keep_freed_memory

    keep_freed_memory()
    real = RealImages(dataset(), device=where.device)
    images = SyntheticImages(initial_images(real, ipc, "noise", 0), ipc, 0.1)
    outer, inner = LOOPS[ipc]
    settings = Matching(
        outer=outer,
        inner=inner,
        batch_real=BATCH,
        batch_train=256,
        lr_net=0.01,
        metric="rows",
        strategy=(),
        joint_step=False,
        precision=where.resolved,
        seed=0,
    )
    work, numbers = GradientMatching(images, real, partial(network, device=where.device), settings), itertools.count()
    return lambda: work.step(next(numbers))


def released_dc(ipc: int, where: Where) -> Callable[[], float]:
    """Return the released loop's matching step of dc, with the training of the network after it."""
    from released.dc_loop import Loop

    outer, inner = LOOPS[ipc]
    return Loop(task(ipc, where.device), *normalised(where.device), BATCH, outer=outer, inner=inner).step


class Segments:
    """A stand-in for trained experts, which cost hours: between random networks a step takes as long."""

    def __init__(self, device: str = "cpu") -> None:
        from ddbench_plugins.methods.mtt.trajectories import flat

        self.ends = [flat(network(number, device)) for number in range(2)]

    def __len__(self) -> int:
        return 1

    def at(self, expert: int, epoch: int) -> Any:
        """Return the parameters [P] of a random network."""
        return self.ends[epoch % 2]


def our_mtt(ipc: int, where: Where) -> Callable[[], float]:
    """Return ddbench's iteration of mtt."""
    import torch
    from ddbench_plugins.methods.mtt.matching import ImagesWithRate, Matching, TrajectoryMatching, Window
    from ddbench_plugins.methods.mtt.trajectories import FlatNetwork
    from ddbench_plugins.training.dsa import STRATEGY
    from ddbench_plugins.training.memory import keep_freed_memory

    keep_freed_memory()
    count = CLASSES * ipc
    pixels = torch.randn(count, CHANNELS, SIDE, SIDE).to(where.device)
    images = ImagesWithRate(pixels, ipc, 100.0, rate=0.01, lr_rate=1e-7, positive=True, mean=MEAN, std=STD)
    settings = Matching(
        SYN_STEPS, expert_epochs=1, window=Window(0, 1, 1, 0), batch_syn=count, strategy=STRATEGY, seed=0
    )
    flat = FlatNetwork(network(0, where.device), where.resolved)
    work = TrajectoryMatching(images, Segments(where.device), flat, settings)  # type: ignore[arg-type]
    numbers = itertools.count()
    return lambda: work.step(next(numbers))


def released_mtt(ipc: int, where: Where) -> Callable[[], float]:
    """Return the released loop's iteration of mtt."""
    import torch
    from released.common import ConvNet
    from released.mtt_loop import Loop

    work = task(ipc, where.device)
    pixels = torch.randn(CLASSES * ipc, CHANNELS, SIDE, SIDE).to(where.device)
    loop = Loop(work, ConvNet(work, "instance"), pixels, SYN_STEPS)
    segments = Segments(where.device)
    return lambda: loop.step(segments.at(0, 0), segments.at(0, 1))


#: ddbench's iteration and the released one.
METHODS = {"dm": (our_dm, released_dm), "dc": (our_dc, released_dc), "mtt": (our_mtt, released_mtt)}

if __name__ == "__main__":
    sys.exit(main())
