"""How much of the device's matrix-multiply peak ddbench's training loop reaches, by network and batch size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from ddbench_plugins.networks import convnet, modified_resnet, resnet
from ddbench_plugins.training import augment, dsa, optimisers, runtime, steps
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import train
from torch import nn

CHANNELS, CLASSES, WIDTH = 3, 10, 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
WARM_UP = 5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Case:
    """One loop: how images are augmented, whether a teacher labels them, what is optimised.

    Attributes:
        protocol: whose loop it is.
        norm: of the network.
        batch: images per step.
        side: of an image.
        network: ``convnet`` (ConvNet-3), ``resnet`` (modified ResNet-18) or ``resnet-ap`` (ResNetAP-10).
    """

    protocol: str
    norm: str
    batch: int
    side: int = 32
    network: str = "convnet"

    def build(self) -> nn.Module:
        """Return a new network."""
        shape = {"in_channels": CHANNELS, "image_size": self.side, "num_classes": CLASSES}
        match self.network:
            case "convnet":
                return convnet.build(**shape, width=WIDTH, norm=self.norm)  # type: ignore[arg-type]
            case "resnet":
                return modified_resnet.build(**shape, depth=18)
            case _:
                return resnet.build(**shape, depth=10, norm=self.norm, average_pool=True)  # type: ignore[arg-type]

    @property
    def title(self) -> str:
        """What it is, in words."""
        return f"{self.protocol}, {self.network} ({self.norm} norm), {self.side} px, batch {self.batch}"


CASES = (
    Case("rded", "batch", 50),
    Case("rded", "batch", 100),
    Case("minimax", "instance", 64),
    Case("dc", "instance", 100),
    Case("dc", "instance", 256),
)


def peak(precision: str, seconds: float = 1.0, side: int = 2048, device: str = "cpu") -> float:
    """Best rate, in floating-point operations per second, of a large matrix product in one precision."""
    a, b = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
    return 2 * side**3 / fastest(lambda: torch.mm(a, b), seconds, device)


def fastest(work: Callable[[], object], seconds: float, device: str) -> float:
    """Return the shortest time of a call over about so many seconds; a GPU is waited for before and after each."""
    best, stop = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < stop or best == float("inf"):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        best = min(best, time.perf_counter() - started)
    return best


def wait(device: str) -> None:
    """Wait until a GPU has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def measure(seconds: float, device: str = "cpu") -> dict[str, Any]:
    """Measure the peak, all cases for about ``seconds`` each, and the peak again."""
    precision = runtime.resolve_precision("auto", device)
    peaks = {p: peak(p, device=device) for p in dict.fromkeys((precision, "fp32"))}
    rows = []
    for case in CASES:
        rate, step = loop_rate(case, seconds, device)
        rows.append({**vars(case), "flops": rate, "step_seconds": step})
    return {
        "precision": precision,
        "peaks": {p: max(first, peak(p, device=device)) for p, first in peaks.items()},
        "loops": rows,
    }


def loop_rate(
    case: Case, seconds: float, device: str = "cpu", precision: str = "auto", batches: int = 1
) -> tuple[float, float]:
    """Return operations per second and seconds per step of ``train`` with so many batches per epoch, after a warm-up.

    Useful operations are three forward passes per image (forward, and twice as much backward) and the teacher's one.
    """
    count = case.batch * batches
    images = torch.randint(256, (count, CHANNELS, case.side, case.side), dtype=torch.uint8)
    labels = torch.arange(count) % CLASSES
    forward = runtime.forward_flops(case.build(), torch.zeros(1, CHANNELS, case.side, case.side))
    scaled, passes = augment.normalise(MEAN, STD), 3
    match case.protocol:
        case "rded":
            chain, make = augment.compose(augment.random_flip, scaled), optimisers.adamw(0.001)
            teacher = case.build().to(device).eval().requires_grad_(False)
            step, passes = steps.soft_label_step(teacher, temperature=20.0), 4
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
            case.build(),
            images=images,
            labels=labels,
            epochs=epochs,
            batch_size=case.batch,
            optimiser=make,
            seed=0,
            augment=chain,
            step=step,
            loop=Loop(device, precision, progress=lambda *done: marks.append(time.perf_counter())),
        )
        return [b - a for a, b in zip(marks[WARM_UP - 1 : -1], marks[WARM_UP:], strict=True)]

    guess = statistics.median(run(WARM_UP + 5))
    taken = statistics.median(run(WARM_UP + max(5, int(seconds / guess)))) / batches
    return passes * forward * case.batch / taken, taken
