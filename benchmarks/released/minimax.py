"""MinimaxDiffusion's evaluation (train.py, data.py, argument.py); up to 64 pixels IDC's, of which it is a copy.

IDC (test.py) feeds small images as tensors without workers and augments the batch; MinimaxDiffusion keeps PIL images
and augments them one by one in workers. Its rules above a hundred classes are left out.
"""

from __future__ import annotations

import random
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import transforms

from released import dsa
from released.common import (
    ConvNet,
    EndlessLoader,
    Outcome,
    PilFolder,
    Task,
    cutmix_,
    moved,
    seed_everything,
    test,
    top_k,
)

NETWORK, NORM = "convnet-3", "instance"
BATCH = 64
WORKERS, SMALL_TEST_WORKERS = 8, 4
SMALL = 64
GREY = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
PCA_VALUES = torch.tensor([0.2175, 0.0188, 0.0045])
PCA_VECTORS = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def epochs(task_size: int, ipc: int, classes: int) -> int:
    """Epochs of the protocol."""
    if task_size <= SMALL:
        return 1000
    rule = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
    count = next((epochs for largest, epochs in rule if ipc <= largest), 300)
    return count if classes != 100 else 2 * count // 3 // 100 * 100


def test_every(task: Task) -> int:
    """Epochs between tests: four tests with IDC, a hundred with MinimaxDiffusion."""
    return max(1, task.epochs // (4 if task.size <= SMALL else 100))


class Tensors(Dataset):
    """Images in [0, 1] and labels, normalised one by one at every access (IDC data.py)."""

    def __init__(self, source: PilFolder, normalise: transforms.Normalize) -> None:
        to_tensor = transforms.ToTensor()
        self.images = torch.stack([to_tensor(image) for image in source.images])
        self.labels = torch.tensor(source.labels)
        self.normalise = normalise

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.normalise(self.images[index]), self.labels[index]

    def __len__(self) -> int:
        return len(self.labels)


def jitter(x: Tensor) -> Tensor:
    """Brightness, contrast and saturation of one image in random order."""
    for kind in random.sample(["brightness", "contrast", "saturation"], 3):
        amount = random.uniform(-0.4, 0.4)
        grey = (x * GREY).sum(0, keepdim=True)
        target = {"brightness": torch.zeros(()), "contrast": grey.mean(), "saturation": grey}[kind]
        x = x + amount * (target - x)
    return x


def lighting(x: Tensor) -> Tensor:
    """PCA noise of one image."""
    return x + (PCA_VECTORS @ (torch.randn(3) * 0.1 * PCA_VALUES))[:, None, None]


def train(task: Task) -> Outcome:
    """Train and test one student."""
    seed_everything(task.seed)
    small = task.size <= SMALL
    normalise = transforms.Normalize(task.mean, task.std)
    flips = [transforms.RandomHorizontalFlip()] if task.flip else []
    resize = [transforms.Resize(task.size), transforms.CenterCrop(task.size)]
    plain = transforms.Compose([*resize, transforms.ToTensor(), normalise])
    crop = transforms.RandomResizedCrop(task.size, scale=(0.5, 1.0))
    colours = [jitter, lighting] if task.channels == 3 else []
    augment = transforms.Compose([*resize, transforms.ToTensor(), crop, *flips, *colours, normalise])
    images = PilFolder(task.train, task.channels, augment)
    workers = min(WORKERS, task.cores)
    loader = EndlessLoader(
        Tensors(images, normalise) if small else images, BATCH, 0 if small else workers, shuffle=True
    )
    test_loader = EndlessLoader(
        PilFolder(task.test, task.channels, plain),
        BATCH // 2,
        min(SMALL_TEST_WORKERS, task.cores) if small else workers,
        shuffle=False,
    )

    network = ConvNet(task, NORM)
    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [2 * task.epochs // 3, 5 * task.epochs // 6], gamma=0.2)
    criterion = nn.CrossEntropyLoss()
    share = 0.5 if small else 1.0
    outcome = Outcome()
    network.train()
    for epoch in range(1, task.epochs + 1):
        outcome.rates.append(optimiser.param_groups[0]["lr"])
        began = time.perf_counter()
        for batch, labels in moved(loader, task.device):
            x = dsa.several(batch, task.flip) if small else batch
            if np.random.rand() < share:
                partners, ratio = cutmix_(x)
                logits = network(x)
                loss = criterion(logits, labels) * ratio + criterion(logits, labels[partners]) * (1 - ratio)
            else:
                logits = network(x)
                loss = criterion(logits, labels)
            top_k(logits.detach(), labels)
            loss.item()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            outcome.steps += 1
        outcome.seconds.append(time.perf_counter() - began)
        if epoch % test_every(task) == 0:
            outcome.tests.append((epoch - 1, test(network, test_loader, device=task.device, graph=True)))
        schedule.step()
    return outcome
