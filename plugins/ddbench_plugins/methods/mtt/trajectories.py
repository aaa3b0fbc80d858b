"""A few training steps on synthetic images, and how their end depends on the images and on the learning rate.

Cazenavette et al. 2022 (distill.py, reparam_module.py). Their code differentiates one graph of all N steps; here every
step has its own, and the gradient goes back through them one by one. Graphs beyond a gigabyte are not kept but worked
out again on the way back. That is the same gradient, with memory that does not grow with N.

TESLA (Cui et al. 2023) has such memory by an approximation, which is here for numbers that rest on it: a step's
gradient then does not depend on the steps before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch.func import functional_call

from ddbench_plugins.methods.mtt.flat import vector
from ddbench_plugins.networks.native import kernels, plain_attention
from ddbench_plugins.training.runtime import Precision, autocast

if TYPE_CHECKING:
    from torch import Tensor, nn

InnerLoss = Callable[..., "Tensor"]
"""Loss of one step, from the flat parameters [P] and all that is learned: the synthetic images [N, C, S, S], and logits
of their labels [N, K] if they are. Always the same numbers."""

Gradient = Literal["unrolled", "tesla"]


#: Bytes of graphs that are kept on the way out for the way back.
ROOM = 2**30


class FlatNetwork:
    """A network as a function of all its parameters in one vector, in the order of ``network.parameters()``.

    Raises:
        ValueError: the network has buffers (batch norm), which the vector would leave out.
    """

    def __init__(self, network: nn.Module, precision: Precision = "fp32") -> None:
        if any(True for buffer in network.buffers()):
            raise ValueError("its state is more than its parameters (batch norm)")
        self.network, self.precision = network, precision
        self.shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]

    def loss(self, vector: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of augmented images [B, C, S, S] and labels [B] or [B, K], with parameters [P]."""
        return F.cross_entropy(self.logits(vector, images), labels)

    def logits(self, vector: Tensor, images: Tensor) -> Tensor:
        """Return the logits [B, K], in float32 at least, of images [B, C, S, S] with parameters [P]."""
        parts = zip(self.shapes.items(), vector.split(self.sizes), strict=True)
        parameters = {name: part.view(shape) for (name, shape), part in parts}
        x = images.contiguous(memory_format=torch.channels_last)
        with autocast(self.precision, x.device):
            logits: Tensor = functional_call(self.network, parameters, (x,))
        return logits if logits.dtype == torch.float64 else logits.float()


def flat(network: nn.Module) -> Tensor:
    """Return a copy of all parameters [P]; it shares no memory with the network."""
    return vector(network.parameters()).detach()


class Match(NamedTuple):
    """How far training on the synthetic images ends from the target, and the gradients of that."""

    loss: Tensor
    """Squared distance to the target over that of the start."""
    learned: tuple[Tensor, ...]
    """Its gradients by the images and by what else is learned."""
    lr: Tensor
    """Its gradient by the learning rate."""


def match(
    losses: Sequence[InnerLoss],
    start: Tensor,
    target: Tensor,
    learned: Sequence[Tensor],
    lr: Tensor,
    *,
    gradient: Gradient = "unrolled",
    room: int = ROOM,
) -> Match:
    """Train from ``start`` [P] by plain SGD, one step for each loss, and compare the end with ``target`` [P].

    ``learned`` is what losses depend on besides the parameters, ``lr`` a scalar tensor, ``room`` the bytes of graphs
    that may be kept. Without any step the loss is 1.
    """
    path, size = [start], 0
    kept: list[_Step] = []
    for loss in losses:
        if len(kept) * size < room:
            step, size = _measured(loss, path[-1], learned)
            kept.append(step)
            path.append(path[-1] - lr * step.gradient.detach())
        else:
            path.append(follow([loss], path[-1], learned, lr)[-1])
    scale = (start - target).square().sum()
    missing = path[-1] - target
    back = 2 * missing / scale  # the gradient of the loss by the parameters, carried back step by step
    by_learned, by_lr = tuple(map(torch.zeros_like, learned)), torch.zeros_like(lr)
    for place in reversed(range(len(losses))):
        step = kept.pop() if place < len(kept) else differentiable_step(losses[place], path[place], learned)
        along = torch.dot(step.gradient, back)
        earlier = (step.parameters,) if gradient == "unrolled" else ()  # by which TESLA does not differentiate
        second = torch.autograd.grad(along, (*step.learned, *earlier))
        for total, part in zip(by_learned, second, strict=False):
            total -= lr * part
        by_lr -= along.detach()
        if earlier:
            back = back - lr * second[-1]
    return Match(missing.square().sum() / scale, by_learned, by_lr)


class _Step(NamedTuple):
    """One step's gradient by the parameters, which can be differentiated by these and by what is learned."""

    parameters: Tensor
    learned: tuple[Tensor, ...]
    gradient: Tensor


def differentiable_step(loss: InnerLoss, before: Tensor, learned: Sequence[Tensor]) -> _Step:
    """Return a step's gradient from parameters ``before`` [P]."""
    parameters, *inputs = (tensor.detach().requires_grad_() for tensor in (before, *learned))
    with kernels(), plain_attention():
        (gradient,) = torch.autograd.grad(loss(parameters, *inputs), parameters, create_graph=True)
    return _Step(parameters, tuple(inputs), gradient)


def _measured(loss: InnerLoss, before: Tensor, learned: Sequence[Tensor]) -> tuple[_Step, int]:
    """Return a step and the bytes of its graph, at most: tensors that it holds more than once count as often."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return differentiable_step(loss, before, learned), max(sum(sizes), 1)


def follow(losses: Sequence[InnerLoss], start: Tensor, learned: Sequence[Tensor], lr: Tensor) -> list[Tensor]:
    """Return the parameters [P] before each step of plain SGD and after the last."""
    path = [start]
    for loss in losses:
        parameters = path[-1].detach().requires_grad_()
        with kernels(), plain_attention():
            (gradient,) = torch.autograd.grad(loss(parameters, *learned), parameters)
        path.append((parameters - lr * gradient).detach())
    return path
