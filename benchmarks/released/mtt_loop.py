"""Trajectory matching as mtt-distillation's distill.py does it: fp32, one graph of all steps on synthetic images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from released import dsa
from released.common import Task


class Loop:
    """The synthetic images and their learning rate, both optimised, and one iteration after the other.

    Args:
        task: classes, IPC, whether mirrored images keep their label.
        network: without buffers; only its structure counts.
        images: float32 [classes * ipc, C, S, S], normalised, ordered by class.
        steps: on the synthetic images, in every iteration, each with all images.
        rates: learning rates of the images and of the learning rate, and what that begins as.
    """

    def __init__(
        self, task: Task, network: nn.Module, images: Tensor, steps: int, rates: Sequence[float] = (100, 1e-7, 0.01)
    ) -> None:
        self.task, self.network, self.steps = task, network, steps
        self.x = images.clone().requires_grad_()
        self.labels = torch.arange(task.classes, device=images.device).repeat_interleave(task.ipc)
        self.rate = torch.tensor(rates[2], device=images.device, requires_grad=True)
        self.optimisers = [
            torch.optim.SGD([self.x], lr=rates[0], momentum=0.5),
            torch.optim.SGD([self.rate], lr=rates[1], momentum=0.5),
        ]

    def step(self, start: Tensor, target: Tensor, *, augment: bool = True) -> float:
        """Do one iteration between two flat vectors of an expert's parameters and return the loss."""
        path = [start.clone().requires_grad_()]
        for _ in range(self.steps):
            order = torch.randperm(len(self.x), device=self.x.device)
            x, labels = self.x[order], self.labels[order]
            if augment:
                x = dsa.one(x, self.task.flip)
            (gradient,) = torch.autograd.grad(
                F.cross_entropy(self._forward(path[-1], x), labels), path[-1], create_graph=True
            )
            path.append(path[-1] - self.rate * gradient)
        loss = (path[-1] - target).square().sum() / (start - target).square().sum()
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
        return loss.item()

    def _forward(self, vector: Tensor, x: Tensor) -> Tensor:
        parameters, at = {}, 0
        for name, parameter in self.network.named_parameters():
            parameters[name] = vector[at : at + parameter.numel()].view(parameter.shape)
            at += parameter.numel()
        return functional_call(self.network, parameters, (x,))
