"""DatasetCondensation's evaluation (utils.py, evaluate_synset and epoch): plain, or with DSA."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms

from released import dsa
from released.common import ConvNet, Outcome, PilFolder, Task, moved, seed_everything

NETWORK, NORM = "convnet-3", "instance"
BATCH = 256
EPOCHS, DSA_EPOCHS = 300, 1000


def train(task: Task, *, augment: bool = False) -> Outcome:
    """Train one network for E+1 epochs and test it once."""
    seed_everything(task.seed)
    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize(task.mean, task.std)])
    source = PilFolder(task.train, task.channels, plain)
    images = torch.stack([source[index][0] for index in range(len(source))])
    loader = DataLoader(TensorDataset(images, torch.tensor(source.labels)), BATCH, shuffle=True)
    test_loader = DataLoader(PilFolder(task.test, task.channels, plain), BATCH)
    network = ConvNet(task, NORM)
    rate = 0.01

    def make() -> torch.optim.Optimizer:
        return torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=5e-4)

    optimiser = make()
    outcome = Outcome()
    for epoch in range(task.epochs + 1):
        outcome.rates.append(rate)
        network.train()
        began = time.perf_counter()
        one_pass(network, loader, task, optimiser, augment)
        outcome.seconds.append(time.perf_counter() - began)
        outcome.steps += len(loader)
        if epoch == task.epochs // 2 + 1:
            rate *= 0.1
            optimiser = make()
    network.eval()
    outcome.tests.append((task.epochs, one_pass(network, test_loader, task, None, False)))
    return outcome


def one_pass(
    network: nn.Module, loader: Any, task: Task, optimiser: torch.optim.Optimizer | None, augment: bool
) -> float:
    """Go once through a loader; return the accuracy. Tests keep autograd on, as the released code does."""
    criterion = nn.CrossEntropyLoss()
    correct = total = 0
    for batch, labels in moved(loader, task.device):
        x = dsa.one(batch.float(), task.flip) if augment else batch.float()
        logits = network(x)
        loss = criterion(logits, labels)
        correct += int((logits.detach().cpu().numpy().argmax(1) == labels.cpu().numpy()).sum())
        loss.item()
        total += len(labels)
        if optimiser is not None:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return float(np.divide(correct, total))
