"""Networks that a schedule begins from, and its steps: gradient descent in a stored order, at stored rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ddbench import DataError, DivergedError

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench import Context, Schedule

#: How Dataset Distillation draws weights (networks/utils.py).
XAVIER = "xavier normal, gain 1, bias 0"


def begun(ctx: Context, schedule: Schedule, seed: int) -> Any:
    """Return the network that the steps begin from, in training mode; ``seed`` is of weights that are not its own.

    Raises:
        DataError: its weights are of a law that is not known here, or do not fit the network.
    """
    seed = seed if schedule.seed is None else schedule.seed
    network = ctx.build_network(schedule.network, seed=seed)
    if schedule.weights is not None:
        count = sum(parameter.numel() for parameter in network.parameters())
        if len(schedule.weights) != count:
            raise DataError(
                f"The schedule has {len(schedule.weights):,} initial weights, {schedule.network} has {count:,}.",
                hint="They are of another network, or for images of another size.",
            )
        nn.utils.vector_to_parameters(torch.tensor(schedule.weights), network.parameters())
    elif schedule.initialisation == XAVIER:
        xavier(network, seed)
    else:
        raise DataError(f"The initialisation {schedule.initialisation!r} is not known.", hint=f"Known is {XAVIER!r}.")
    return network.to(ctx.machine.device).train()


def xavier(network: nn.Module, seed: int) -> None:
    """Draw the weights of convolutions and linear layers anew."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return −mean Σ y·log p for targets [B, K] that may be any real numbers."""
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def replay(network: nn.Module, images: Tensor, targets: Tensor, schedule: Schedule) -> None:
    """Train a network by the steps of a schedule, on normalised images [N, C, S, S] and targets [N, K].

    Raises:
        DivergedError: weights are not finite after them, of which a test would make a class by chance.
    """
    parameters = list(network.parameters())
    for batch, rate in schedule.steps:
        chosen = torch.tensor(schedule.batches[batch], device=images.device)
        loss = cross_entropy(network(images[chosen]), targets[chosen])
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate * gradient
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise DivergedError(
            "A network has weights that are NaN or infinite after the steps of its set.",
            hint="The step sizes are too large for its initial weights: distil longer, or lower method.lr_img.",
        )
