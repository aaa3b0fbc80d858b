"""Gradient matching as DatasetCondensation's main.py does it: fp32, one class after the other, one backward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from released import dsa
from released.common import ConvNet, Task, moved


class Loop:
    """The synthetic images with their optimiser, and one matching step after the other.

    Args:
        task: sizes, classes, IPC, whether mirrored images keep their label.
        images: float32 [N, C, S, S], normalised, all in memory.
        members: positions of the images of each class.
        batch: real images per class and step.
        outer, inner: matching steps per network, and epochs on the synthetic images between two of them.
        augment: DSA.
    """

    def __init__(
        self,
        task: Task,
        images: Tensor,
        members: Sequence[NDArray[np.int64]],
        batch: int = 256,
        *,
        outer: int = 1,
        inner: int = 1,
        augment: bool = False,
    ) -> None:
        self.task, self.images, self.members, self.batch = task, images, members, batch
        self.outer, self.inner, self.augment = outer, inner, augment
        self.x = torch.randn(task.classes * task.ipc, *images.shape[1:], device=images.device, requires_grad=True)
        self.labels = torch.arange(task.classes, device=images.device).repeat_interleave(task.ipc)
        self.optimiser = torch.optim.SGD([self.x], lr=0.1, momentum=0.5)
        self.done = 0
        self.network: nn.Module | None = None

    def step(self, network: nn.Module | None = None) -> float:
        """Do one matching step, with a new network when it is time (or the given one); return the loss per class."""
        turn = self.done % self.outer
        if network is not None or turn == 0 or self.network is None:
            self.network = network or ConvNet(self.task, "instance")
            self.sgd = torch.optim.SGD(self.network.parameters(), lr=0.01)
        self.network.train()
        parameters = list(self.network.parameters())
        loss = torch.tensor(0.0, device=self.x.device)
        for label in range(self.task.classes):
            real = self.images[np.random.permutation(self.members[label])[: self.batch]]
            synthetic = self.x[label * self.task.ipc : (label + 1) * self.task.ipc]
            if self.augment:
                state = torch.get_rng_state()
                real = dsa.one(real, self.task.flip, siamese=True)
                torch.set_rng_state(state)
                synthetic = dsa.one(synthetic, self.task.flip, siamese=True)
            wanted = [each.detach().clone() for each in self._gradients(parameters, real, label, graph=False)]
            loss = loss + distance(self._gradients(parameters, synthetic, label, graph=True), wanted)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        value = loss.item() / self.task.classes
        if turn < self.outer - 1:
            self._train(self.network)
        self.done += 1
        return value

    def _gradients(self, parameters: list[Tensor], x: Tensor, label: int, *, graph: bool) -> Sequence[Tensor]:
        assert self.network is not None
        labels = torch.full((len(x),), label, device=x.device)
        return torch.autograd.grad(F.cross_entropy(self.network(x), labels), parameters, create_graph=graph)

    def _train(self, network: nn.Module) -> None:
        images = self.x.detach().clone()
        loader = DataLoader(TensorDataset(images, self.labels), 256, shuffle=True)
        for _ in range(self.inner):
            for batch, labels in moved(loader, self.task.device):
                x = dsa.one(batch, self.task.flip) if self.augment else batch
                loss = F.cross_entropy(network(x), labels)
                loss.item()
                self.sgd.zero_grad()
                loss.backward()
                self.sgd.step()


def distance(synthetic: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Sum of 1 − cosine over the rows of all tensors that have rows (utils.py, match_loss, "ours")."""
    total = torch.zeros((), device=real[0].device)
    for a, b in zip(synthetic, real, strict=True):
        if a.ndim > 1:
            a, b = a.flatten(1), b.flatten(1)
            total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    return total
