"""What the released evaluations have in common: a task, the network, loaders over class folders, CutMix, accuracy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Task:
    """One student to train.

    Attributes:
        train, test: folders with one sub-folder 00000, 00001, … of images per class.
        size, channels, classes, ipc: of the data set.
        mean, std: normalisation, per channel.
        flip: whether mirrored images keep their label.
        factor: RDED's factor.
        teacher: safetensors file of RDED's teacher.
        epochs: of the protocol.
        seed: of torch, NumPy and Python.
        cores: upper bound of loader workers; released defaults (4 and 8) are meant for servers.
        device: where networks are, and batches are moved to.
    """

    train: Path
    test: Path
    size: int
    channels: int
    classes: int
    ipc: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    epochs: int
    factor: int = 1
    teacher: Path | None = None
    seed: int = 0
    cores: int = os.cpu_count() or 1
    device: str = "cpu"


@dataclass
class Outcome:
    """What a training did.

    Attributes:
        tests: (epoch, accuracy) of every test (0-based).
        rates: the learning rate of every epoch.
        steps: in all.
        seconds: of every epoch, without tests.
    """

    tests: list[tuple[int, float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: list[float] = field(default_factory=list)


class ConvNet(nn.Module):
    """ConvNet-3 of width 128 as all the repositories have it; ``instance`` is GroupNorm with a group per channel."""

    def __init__(self, task: Task, norm: str, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = task.channels, task.size
        for _ in range(depth):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(width, width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, task.classes)
        self.to(task.device)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, S, S] -> [B, K]``."""
        return self.classifier(self.features(x).flatten(1))


class PilFolder(Dataset):
    """Class folders, decoded once and kept as PIL images; transformed at every access."""

    def __init__(self, folder: Path, channels: int, transform: Callable[[Any], Tensor]) -> None:
        self.transform = transform
        self.images, self.labels = [], []
        for label, path in enumerate(sorted(folder.iterdir())):
            for file in sorted(path.iterdir()):
                with Image.open(file) as image:
                    self.images.append(image.convert("RGB" if channels == 3 else "L"))
                self.labels.append(label)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]

    def __len__(self) -> int:
        return len(self.labels)


class EndlessLoader:
    """One iterator over endlessly repeated epochs, so that its workers live on (IDC's loader)."""

    def __init__(self, dataset: Dataset, batch_size: int, workers: int, shuffle: bool) -> None:
        plain = DataLoader(dataset, batch_size, shuffle=shuffle)
        self.length = len(plain)
        self.iterator = iter(
            DataLoader(dataset, batch_sampler=_Endless(plain.batch_sampler), num_workers=workers)  # type: ignore[arg-type]
        )

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.length):
            yield next(self.iterator)


class _Endless:
    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.sampler


def moved(loader: Any, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through a loader, each batch moved to the device when its turn comes."""
    for images, labels in loader:
        yield images.to(device), labels.to(device)


def seed_everything(seed: int) -> None:
    """Seed what the released code draws from: Python, NumPy, torch."""
    import random

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def cutmix_(images: Tensor) -> tuple[Tensor, float]:
    """Mix a batch in place with a permutation of itself; return the permutation and the share that was kept."""
    weight = np.random.beta(1.0, 1.0)
    partners = torch.randperm(len(images), device=images.device)
    height, width = images.shape[2:]
    half_h, half_w = int(height * np.sqrt(1 - weight)) // 2, int(width * np.sqrt(1 - weight)) // 2
    row, column = np.random.randint(height), np.random.randint(width)
    rows = slice(max(row - half_h, 0), min(row + half_h, height))
    columns = slice(max(column - half_w, 0), min(column + half_w, width))
    images[:, :, rows, columns] = images[partners][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return partners, 1 - area / (height * width)


def top_k(logits: Tensor, labels: Tensor, ks: tuple[int, ...] = (1, 5)) -> list[float]:
    """Accuracies in percent among the k best classes, computed every batch as all repositories do."""
    best = logits.topk(min(max(ks), logits.shape[1]), 1)[1]
    hits = best == labels[:, None]
    return [hits[:, :k].sum().item() * 100 / len(labels) for k in ks]


def test(network: nn.Module, loader: Any, *, device: str, graph: bool) -> float:
    """Accuracy (fraction) over a loader, with loss and top-5 as they are logged; ``graph``: autograd stays on."""
    network.eval()
    criterion = nn.CrossEntropyLoss()
    correct = total = 0.0
    with torch.set_grad_enabled(graph):
        for images, labels in moved(loader, device):
            logits = network(images)
            criterion(logits, labels).item()
            correct += top_k(logits.detach(), labels)[0] / 100 * len(labels)
            total += len(labels)
    network.train()
    return round(correct) / total
