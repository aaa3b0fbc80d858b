"""The training of a network, student or teacher: sets in memory, whole batches augmented, resumable, seeded."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.engine import Functions, Loop
from ddbench_plugins.training.graphs import Graphs
from ddbench_plugins.training.numbers import Operation, moved, moved_rows, unpacked
from ddbench_plugins.training.predict import as_float
from ddbench_plugins.training.runtime import Compile, LossScaler, compile_if_worth_it
from ddbench_plugins.training.schedules import constant
from ddbench_plugins.training.seeding import make_generator, seeded
from ddbench_plugins.training.steps import Batch, Batches, DrawnStep, Step, hard_label_step

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ddbench_plugins.training.augment import Augment
    from ddbench_plugins.training.optimisers import OptimiserFactory
    from ddbench_plugins.training.schedules import Schedule

_DROPOUT_STREAM = 1


@dataclass
class TrainResult:
    """What a training did. Epochs are 0-based, accuracies fractions."""

    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch."""
    tests: list[tuple[int, float]] = field(default_factory=list)
    """(epoch after which it was tested, accuracy)."""

    @property
    def best(self) -> float | None:
        """Highest accuracy of all tests."""
        return max((accuracy for _, accuracy in self.tests), default=None)


def train(
    network: nn.Module,
    *,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    batch_size: int,
    optimiser: OptimiserFactory,
    seed: int,
    schedule: Schedule | None = None,
    schedule_per_step: bool = False,
    restart_optimiser_at: Collection[int] = (),
    augment: Augment | None = None,
    batches: Batches | None = None,
    step: Step | None = None,
    test: Callable[[nn.Module], float] | None = None,
    test_epochs: Collection[int] = (),
    compile: Compile = "auto",
    loop: Loop | None = None,
) -> TrainResult:
    """Train ``network`` in place and return the curve.

    ``images`` ``[N, C, H, W]`` uint8 (scaled to [0, 1] per batch) or float; ``labels`` ``[N]`` or ``[N, K]``. Each
    epoch visits every image once; the last short batch is kept. ``augment`` gets float batches and must also normalise
    uint8 images. ``batches`` makes the batches of an epoch, augmented and labelled, in place of that; they too hold
    every image once, ``batch_size`` at a time. ``schedule`` maps the epoch (the fractional epoch with
    ``schedule_per_step``) to a factor of the optimiser's learning rate; ``restart_optimiser_at`` names epochs that
    begin with a new optimiser. ``step`` defaults to cross-entropy. ``test`` is called after each of ``test_epochs``.

    All randomness derives from ``seed`` and the epoch, so a training resumed from the ``loop``'s checkpoint ends
    bit-identically on the same machine. Raises ``ValueError`` for an empty set, for a checkpoint of another training,
    and ``DivergedError`` if the loss stops being finite.
    """
    if len(images) == 0:
        raise ValueError("cannot train on an empty set")
    loop = loop or Loop()
    network.to(device=loop.device, memory_format=torch.channels_last).train()
    images, labels = images.to(loop.device), labels.to(loop.device)
    augmented, computed, factor = _augmentation(augment), _step(step or hard_label_step()), schedule or constant()
    current, scaler = optimiser(network), LossScaler(loop.precision, loop.device)
    result = TrainResult()
    signature = {"seed": seed, "epochs": epochs, "batch_size": batch_size, "images": len(images)}
    size = min(batch_size, len(images))
    steps = math.ceil(len(images) / size)
    # What was written without its draws apart is done step by step.
    ahead = images.is_cuda and isinstance(augment, Operation | None) and isinstance(step, DrawnStep | None)

    def draw_batches(generator: torch.Generator) -> Iterator[tuple[Any, ...]]:
        for chosen in torch.randperm(len(images), generator=generator).split(size):
            yield chosen, augmented.draw((len(chosen), *images.shape[1:]), generator)

    def make_batch(chosen: Tensor, drawn: Any) -> Batch:
        x = augmented.apply(as_float(images[chosen]), *drawn)
        return Batch(x.contiguous(memory_format=torch.channels_last), labels[chosen], chosen)

    make = batches.make if batches else make_batch

    def draw(epoch: int) -> Iterator[tuple[Any, ...]]:
        """Yield what differs from step to step: the learning rate's factor, the batch, the numbers of the loss."""
        generator = make_generator(seed, epoch)
        for number, given in enumerate(batches.draw(epoch) if batches else draw_batches(generator)):
            rate = factor(epoch + number / steps if schedule_per_step else epoch)
            shape = augmented.shape((min(size, len(images) - number * size), *images.shape[1:]))
            yield torch.tensor(rate) if ahead else rate, given, computed.draw(shape, generator)

    example = make_batch(
        *moved((torch.arange(size), augmented.draw((size, *images.shape[1:]), make_generator(seed))), loop.device)
    ).images
    # Of the whole training, also when resumed: compiled and plain arithmetic differ in the last digits.
    compiled = compile_if_worth_it(network, example, epochs * len(images), compile, loop.precision)
    total = torch.zeros((), device=loop.device)

    def take_step(rate: Any, given: Any, drawn: Any) -> None:
        _set_learning_rate(current, rate)
        batch = make(*given)
        count = len(batch.images)
        with loop.autocast(), kernels():
            # A compiled graph is for one batch size; the short last batch runs as written.
            loss = computed.loss(compiled if count == size else network, batch, *drawn)
        current.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(current)
        scaler.update()
        total.add_(loss.detach() * count)

    graphs = Graphs(take_step, current) if ahead and compile == "auto" else None

    def train_epoch(epoch: int) -> dict[str, float]:
        nonlocal current, graphs
        if epoch in restart_optimiser_at:
            current = optimiser(network)
            graphs = graphs and Graphs(take_step, current)
        total.zero_()
        with seeded(seed, epoch, _DROPOUT_STREAM):
            if ahead:
                for layout, row in moved_rows(draw(epoch), loop.device):
                    graphs(layout, row) if graphs else take_step(*unpacked(layout, row))
            else:
                for numbers in draw(epoch):
                    take_step(*moved(numbers, loop.device))
        result.losses.append(total.item() / len(images))
        scaler.check(type(network).__name__)
        if test is not None and epoch in test_epochs:
            result.tests.append((epoch, test(network)))
        return {"loss": result.losses[-1]}

    def state() -> dict[str, Any]:
        return {
            "signature": signature,
            "network": network.state_dict(),
            "optimiser": current.state_dict(),
            "scaler": scaler.state_dict(),
            **asdict(result),
        }

    def restore(state: dict[str, Any]) -> None:
        if state["signature"] != signature:
            raise ValueError(f"the checkpoint belongs to another training: {state['signature']}, not {signature}")
        network.load_state_dict(state["network"])
        current.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        result.losses = state["losses"]
        result.tests = [(int(epoch), accuracy) for epoch, accuracy in state["tests"]]

    hint = "Try a lower learning rate (-o eval.lr=… where the evaluator has it), another network"
    loop.run(Functions(train_epoch, state, restore), epochs, name=type(network).__name__, hint=hint)
    return result


def _augmentation(augment: Augment | None) -> Operation:
    if isinstance(augment, Operation):
        return augment
    given = augment or (lambda x, generator: x)
    return Operation(lambda shape, generator: (generator,), given)


def _step(step: Step) -> DrawnStep:
    return step if isinstance(step, DrawnStep) else DrawnStep(lambda shape, generator: (generator,), step)


def _set_learning_rate(optimiser: torch.optim.Optimizer, factor: float | Tensor) -> None:
    for group in optimiser.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor
