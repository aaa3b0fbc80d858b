"""RDED's evaluation (validation/main.py, validation/utils.py, argument.py)."""

from __future__ import annotations

import itertools
import math
import random
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from released.common import ConvNet, Outcome, PilFolder, Task, cutmix_, moved, seed_everything, test, top_k

EPOCHS = 300
NETWORK, NORM = "convnet-3-bn", "batch"
TEMPERATURE = 20.0
WORKERS = 4


class ShufflePatches:
    """Permute vertical strips, then horizontal ones, of one image ``[C, H, W]``."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, image: Tensor) -> Tensor:
        """Return the image with its strips in random order."""
        for dim in (2, 1):
            width = image.shape[dim] // self.factor
            edges = [*range(0, width * self.factor, width), image.shape[dim]]
            strips = [image.narrow(dim, a, b - a) for a, b in itertools.pairwise(edges)]
            random.shuffle(strips)
            image = torch.cat(strips, dim)
        return image


def batch_size(task: Task) -> int:
    """Images per step by IPC and classes."""
    size = {1: 10, 10: 50, 50: 100}[task.ipc] * (2 if task.classes in (100, 1000) else 1)
    return min(size, task.ipc * task.classes)


def tested(epoch: int, epochs: int) -> bool:
    """Whether there is a test after this 0-based epoch."""
    return (epoch % 10 == 9 or epoch == epochs - 1) and epoch > epochs * 0.8


def train(task: Task) -> Outcome:
    """Train and test one student; the loaders' workers are started again for every epoch and every test."""
    seed_everything(task.seed)
    assert task.teacher is not None
    teacher, student = ConvNet(task, NORM), ConvNet(task, NORM)
    teacher.load_state_dict(load_file(task.teacher))
    teacher.eval().requires_grad_(False)
    decayed = [p for n, p in student.named_parameters() if "weight" in n and p.ndim > 1]
    others = [p for n, p in student.named_parameters() if not ("weight" in n and p.ndim > 1)]
    optimiser = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=0.001, betas=(0.9, 0.999), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / task.epochs / 2))
    )
    normalise = transforms.Normalize(task.mean, task.std)
    augment = transforms.Compose(
        [
            transforms.ToTensor(),
            ShufflePatches(task.factor),
            transforms.RandomResizedCrop(task.size, scale=(1 / task.factor, 1.0), antialias=True),
            *([transforms.RandomHorizontalFlip()] if task.flip else []),
            normalise,
        ]
    )
    resize = [transforms.Resize(max(task.size, task.size // 7 * 8)), transforms.CenterCrop(task.size)]
    plain = transforms.Compose([*resize, transforms.ToTensor(), normalise])
    size, workers = batch_size(task), min(WORKERS if task.ipc > 1 else 0, task.cores)
    loader = DataLoader(PilFolder(task.train, task.channels, augment), size, shuffle=True, num_workers=workers)
    test_loader = DataLoader(PilFolder(task.test, task.channels, plain), size, num_workers=workers)

    criterion = nn.KLDivLoss(reduction="batchmean")
    outcome = Outcome()
    student.train()
    for epoch in range(task.epochs):
        outcome.rates.append(optimiser.param_groups[0]["lr"])
        began = time.perf_counter()
        for images, labels in moved(loader, task.device):
            with torch.no_grad():
                cutmix_(images)
                logged = student(images)  # in training mode: batch norm moves twice per step
                target = F.softmax(teacher(images) / TEMPERATURE, dim=1)
            optimiser.zero_grad()
            top_k(logged, labels)
            loss = criterion(F.log_softmax(student(images) / TEMPERATURE, dim=1), target)
            loss.backward()
            optimiser.step()
            loss.item()
            outcome.steps += 1
        outcome.seconds.append(time.perf_counter() - began)
        if tested(epoch, task.epochs):
            outcome.tests.append((epoch, test(student, test_loader, device=task.device, graph=False)))
        schedule.step()
    return outcome
