"""Distribution matching as DatasetCondensation's main_DM.py does it: fp32, one class after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from released import dsa
from released.common import ConvNet, Task


class Loop:
    """The synthetic images with their optimiser, and one iteration after the other.

    Args:
        task: sizes, classes, IPC, whether mirrored images keep their label.
        images: float32 [N, C, S, S], normalised, all in memory.
        members: positions of the images of each class.
        batch: real images per class and iteration.
    """

    def __init__(self, task: Task, images: Tensor, members: Sequence[NDArray[np.int64]], batch: int = 256) -> None:
        self.task, self.images, self.members, self.batch = task, images, members, batch
        begun = [images[self._pick(label, task.ipc)] for label in range(task.classes)]
        self.x = torch.cat(begun).clone().requires_grad_()
        self.optimiser = torch.optim.SGD([self.x], lr=1.0, momentum=0.5)

    def step(self, network: nn.Module | None = None, *, augment: bool = True) -> float:
        """Do one iteration with a new network (or the given one) and return the loss, summed over classes."""
        if network is None:
            torch.random.manual_seed(int(time.time() * 1000) % 100000)
            network = ConvNet(self.task, "instance")
        network.train()
        for parameter in network.parameters():
            parameter.requires_grad = False
        loss = torch.tensor(0.0, device=self.x.device)
        for label in range(self.task.classes):
            real = self.images[self._pick(label, self.batch)]
            synthetic = self.x[label * self.task.ipc : (label + 1) * self.task.ipc]
            if augment:
                seed = int(time.time() * 1000) % 100000
                real, synthetic = self._augment(real, seed), self._augment(synthetic, seed)
            features = network.features(real).flatten(1).detach()
            loss = loss + ((features.mean(0) - network.features(synthetic).flatten(1).mean(0)) ** 2).sum()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def _pick(self, label: int, count: int) -> NDArray[np.int64]:
        return np.random.permutation(self.members[label])[:count]

    def _augment(self, x: Tensor, seed: int) -> Tensor:
        torch.random.manual_seed(seed)
        return dsa.one(x, self.task.flip, siamese=True)
