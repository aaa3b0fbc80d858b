"""Logits and accuracy of a network over a whole set."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.memory import keep_freed_memory
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.runtime import Precision, autocast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor, nn

    from ddbench import Context
    from ddbench_plugins.training.augment import Augment
    from ddbench_plugins.training.streaming import StreamedImages


class Evaluation(NamedTuple):
    """Accuracy over a set."""

    accuracy: float
    """Fraction in [0, 1]."""
    correct: Tensor
    """bool ``[N]``, in the order of the set."""


def as_float(images: Tensor) -> Tensor:
    """uint8 images become [0, 1]; float images stay as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def predict(
    network: nn.Module,
    images: Tensor | StreamedImages,
    *,
    transform: Augment | None = None,
    batch: int = 500,
    precision: Precision = "auto",
    device: torch.device | str = "cpu",
) -> Tensor:
    """Logits ``[N, K]`` (float32, CPU) in evaluation mode; the network's mode is restored.

    ``images`` is ``[N, C, S, S]``, uint8 or float, or streamed; ``transform`` (for example ``normalise(mean, std)``)
    is applied to each batch after scaling to [0, 1] and must not draw random numbers.
    """
    keep_freed_memory()
    images, layout = _resident(images, torch.device(device)), memory_layout(network)
    generator: Generator = torch.Generator()
    training = network.training
    network.eval()
    logits = []
    try:
        with torch.inference_mode(), autocast(precision, device), kernels():
            for part in images.split(batch):
                x = as_float(moved(part, device))
                if transform is not None:
                    x = transform(x, generator)
                logits.append(network(x.contiguous(memory_format=layout)).float())
    finally:
        network.train(training)
    return torch.cat(logits).cpu()


#: The set that is on a GPU, and where it came from: tests of one cell, and of the next, ask for the same one.
_there: list[tuple[Tensor, Tensor]] = []


def _resident(images: Tensor | StreamedImages, device: torch.device) -> Tensor | StreamedImages:
    """Return a set on the GPU where it takes no more than a quarter of what is free there, else as it is."""
    if device.type != "cuda" or not isinstance(images, torch.Tensor) or images.is_cuda:
        return images
    for source, there in _there:
        if source is images:
            return there
    _there.clear()
    if images.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
        return images
    _there.append((images, images.to(device)))
    return _there[0][1]


def evaluate(
    network: nn.Module,
    images: Tensor | StreamedImages,
    labels: Tensor,
    *,
    transform: Augment | None = None,
    batch: int = 500,
    precision: Precision = "auto",
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Top-1 accuracy; arguments as in :func:`predict`, ``labels`` ``[N]``. Raises ``ValueError`` for an empty set."""
    if len(images) == 0:
        raise ValueError("cannot measure accuracy on an empty set")
    logits = predict(network, images, transform=transform, batch=batch, precision=precision, device=device)
    correct = logits.argmax(1) == labels.cpu()
    return Evaluation(correct.double().mean().item(), correct)


def evaluate_on(
    ctx: Context,
    network: nn.Module,
    images: Tensor | StreamedImages,
    labels: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
) -> Evaluation:
    """Evaluate on a run's device, in its precision, on images normalised by these constants."""
    precision, device = ctx.machine.precision, ctx.machine.device
    return evaluate(network, images, labels, transform=normalise(mean, std), precision=precision, device=device)


def memory_layout(network: nn.Module) -> torch.memory_format:
    """Memory format of the network's convolution weights (inputs should have the same)."""
    for parameter in network.parameters():
        if parameter.ndim == 4 and parameter.shape[1] > 1:
            channels_last = parameter.is_contiguous(memory_format=torch.channels_last)
            return torch.channels_last if channels_last else torch.contiguous_format
    return torch.contiguous_format
