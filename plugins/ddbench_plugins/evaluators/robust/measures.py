"""Measures a trained student on the test split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ddbench_plugins.evaluators.robust.attacks import pgd
from ddbench_plugins.evaluators.robust.corruptions import SEVERITIES, corrupted
from ddbench_plugins.evaluators.robust.figures import calibration_error, robustness_ratio, worst_class
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.predict import as_float, memory_layout, predict
from ddbench_plugins.training.runtime import autocast

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ddbench import Context
    from ddbench_plugins.evaluators.robust.evaluator import RobustOptions
    from ddbench_plugins.training.recipe import Constants
    from ddbench_plugins.training.streaming import StreamedImages

#: Images that are attacked at once.
TOGETHER = 250


def measured(
    ctx: Context, network: nn.Module, images: Tensor | StreamedImages, labels: Tensor, constants: Constants
) -> dict[str, float]:
    """Return the figures of a trained network; accuracies are fractions.

    Args:
        ctx: of the evaluator, with :class:`RobustOptions`.
        network: takes images normalised by ``constants``.
        images: uint8 [N, C, S, S], the test split.
        labels: [N].
        constants: mean and standard deviation per channel.
    """
    options: RobustOptions = ctx.options
    machine, scale = ctx.machine, normalise(*constants)

    def logits_of(shown: Tensor | StreamedImages) -> Tensor:
        return predict(network, shown, transform=scale, precision=machine.precision, device=machine.device)

    probabilities = logits_of(images).softmax(1)
    confidence, predicted = probabilities.max(1)
    right = (predicted == labels).numpy()
    figures = {
        "ece": calibration_error(confidence.numpy(), right),
        "worst_class": worst_class(right, labels.numpy()),
    }
    part, named = _part(images, labels, options.measured)

    def accuracy(shown: Tensor) -> float:
        return float((logits_of(shown).argmax(1) == named).double().mean())

    generator = torch.Generator().manual_seed(ctx.seed("corruptions"))
    with ctx.progress("corruptions and attacks", len(SEVERITIES) + 2) as advance:
        for number, name in enumerate(SEVERITIES):
            found = [accuracy(corrupted(part, name, severity, generator)) for severity in options.severities]
            figures[name] = float(np.mean(found))
            advance(number + 1)
        figures["corrupted"] = float(np.mean([figures[name] for name in SEVERITIES]))
        clean = accuracy(part)
        steps = {"fgsm": (options.epsilon, 1), "pgd": (options.attack_step, options.attack_steps)}
        for number, (name, (step, count)) in enumerate(steps.items()):
            figures[name] = accuracy(_attacked(ctx, network, part, named, constants, step, count))
            advance(len(SEVERITIES) + number + 1)
    return figures | {"clean": clean, "robustness_ratio": robustness_ratio(clean, [figures["fgsm"], figures["pgd"]])}


def _part(images: Tensor | StreamedImages, labels: Tensor, count: int | None) -> tuple[Tensor, Tensor]:
    """Return so many test images, evenly from all, in memory."""
    chosen = torch.linspace(0, len(labels) - 1, min(count or len(labels), len(labels))).long()
    if isinstance(images, torch.Tensor):
        return images[chosen], labels[chosen]
    wanted, start = {*chosen.tolist()}, 0
    found: list[Tensor] = []
    for batch in images.split(TOGETHER):
        found.extend(batch[i] for i in range(len(batch)) if start + i in wanted)
        start += len(batch)
    return torch.stack(found), labels[chosen]


def _attacked(
    ctx: Context, network: nn.Module, images: Tensor, labels: Tensor, constants: Constants, step: float, steps: int
) -> Tensor:
    """Return attacked images, float [n, C, S, S] in [0, 1]."""
    device, precision = ctx.machine.device, ctx.machine.precision
    scale, layout, training = normalise(*constants), memory_layout(network), network.training
    network.eval()

    def logits(shown: Tensor) -> Tensor:
        with autocast(precision, device), kernels():
            found: Tensor = network(scale.apply(shown).contiguous(memory_format=layout)).float()
        return found

    try:
        return torch.cat(
            [
                pgd(
                    logits,
                    as_float(moved(part, device)),
                    moved(named, device),
                    epsilon=ctx.options.epsilon,
                    step=step,
                    steps=steps,
                ).cpu()
                for part, named in zip(images.split(TOGETHER), labels.split(TOGETHER), strict=True)
            ]
        )
    finally:
        network.train(training)
