"""How much of the processor's matrix-multiply peak ddbench's training loop reaches, by network and batch size."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from ddbench_plugins.networks import convnet
from ddbench_plugins.training import augment, dsa, optimisers, runtime, steps
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import train
from torch import nn

SIDE, CHANNELS, CLASSES, WIDTH = 32, 3, 10, 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
WARM_UP = 5


@dataclass(frozen=True)
class Case:
    """One loop: how images are augmented, whether a teacher labels them, what is optimised."""

    protocol: str
    norm: str
    batch: int


CASES = (
    Case("rded", "batch", 50),
    Case("rded", "batch", 100),
    Case("minimax", "instance", 64),
    Case("dc", "instance", 100),
    Case("dc", "instance", 256),
)


def peak(precision: str, seconds: float = 1.0, side: int = 2048) -> float:
    """Best rate, in floating-point operations per second, of a large matrix product in one precision."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    fastest, stop = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < stop:
        started = time.perf_counter()
        torch.mm(a, b)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * side**3 / fastest


def measure(seconds: float) -> dict[str, Any]:
    """Measure the peak, all cases for about ``seconds`` each, and the peak again."""
    precision = runtime.resolve_precision("auto", "cpu")
    peaks = {p: peak(p) for p in dict.fromkeys((precision, "fp32"))}
    rows = []
    for case in CASES:
        rate, step = loop_rate(case, seconds)
        rows.append({**vars(case), "flops": rate, "step_seconds": step})
    return {"precision": precision, "peaks": {p: max(first, peak(p)) for p, first in peaks.items()}, "loops": rows}


def loop_rate(case: Case, seconds: float) -> tuple[float, float]:
    """Return operations per second and seconds per step of ``train`` with one batch per epoch, after a warm-up.

    Useful operations are three forward passes per image (forward, and twice as much backward) and the teacher's one.
    """

    def build() -> nn.Module:
        return convnet.build(in_channels=CHANNELS, image_size=SIDE, num_classes=CLASSES, width=WIDTH, norm=case.norm)

    images = torch.randint(256, (case.batch, CHANNELS, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.arange(case.batch) % CLASSES
    forward = runtime.forward_flops(build(), torch.zeros(1, CHANNELS, SIDE, SIDE))
    scaled, passes = augment.normalise(MEAN, STD), 3
    match case.protocol:
        case "rded":
            chain, make = augment.compose(augment.random_flip, scaled), optimisers.adamw(0.001)
            step, passes = steps.soft_label_step(build().eval().requires_grad_(False), temperature=20.0), 4
        case "minimax":
            strategy = [name for name in dsa.STRATEGY if name != "cutout"]
            chain, make = augment.compose(scaled, dsa.dsa("idc", strategy)), optimisers.sgd(0.01)
            step = steps.hard_label_step(cutmix_probability=0.5)
        case _:
            chain, make, step = scaled, optimisers.sgd(0.01), steps.hard_label_step()

    marks: list[float] = []

    def run(epochs: int) -> list[float]:
        marks.clear()
        train(
            build(),
            images=images,
            labels=labels,
            epochs=epochs,
            batch_size=case.batch,
            optimiser=make,
            seed=0,
            augment=chain,
            step=step,
            loop=Loop(precision="auto", progress=lambda *done: marks.append(time.perf_counter())),
        )
        return [b - a for a, b in zip(marks[WARM_UP - 1 : -1], marks[WARM_UP:], strict=True)]

    guess = statistics.median(run(WARM_UP + 5))
    taken = statistics.median(run(WARM_UP + max(5, int(seconds / guess))))
    return passes * forward * case.batch / taken, taken
