"""The training of a network, student or teacher: sets in memory, whole batches augmented, resumable, seeded."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.averaging import AveragedWeights
from ddbench_plugins.training.engine import Functions, Loop
from ddbench_plugins.training.graphs import Graphs
from ddbench_plugins.training.numbers import Operation, joined, moved, moved_rows, unpacked
from ddbench_plugins.training.predict import as_float
from ddbench_plugins.training.runtime import Compile, LossScaler, compile_if_worth_it
from ddbench_plugins.training.schedules import constant
from ddbench_plugins.training.seeding import make_generator, seeded
from ddbench_plugins.training.stacking import Stacked
from ddbench_plugins.training.steps import Batch, Batches, DrawnStep, Step, answered, draw_nothing, hard_label_step

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


def train(network: nn.Module, *, seed: int, batches: Batches | None = None, **how: Any) -> TrainResult:
    """Train one network as :func:`train_together` does."""
    return train_together([network], seeds=[seed], batches=[batches] if batches else None, **how)[0]


def train_together(networks: Sequence[nn.Module], *, seeds: Sequence[int], **how: Any) -> list[TrainResult]:
    """Train networks in place as :func:`trainer` says, once."""
    return trainer(networks, **how)(seeds)


def trainer(
    networks: Sequence[nn.Module],
    *,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    batch_size: int,
    optimiser: OptimiserFactory,
    schedule: Schedule | None = None,
    schedule_per_step: bool = False,
    restart_optimiser_at: Collection[int] = (),
    augment: Augment | None = None,
    batches: Sequence[Batches] | None = None,
    step: Step | None = None,
    average: float = 0.0,
    test: Callable[[nn.Module], float] | None = None,
    test_epochs: Collection[int] = (),
    compile: Compile = "auto",
    loop: Loop | None = None,
    losses: bool = True,
) -> Callable[[Sequence[int]], list[TrainResult]]:
    """Return a function that trains networks in place, several as one (:mod:`stacking`), and returns the curve of each.

    It gets a seed for each of them. Called again, it trains them further by the same graphs, with a new optimiser.

    ``images`` ``[N, C, H, W]`` uint8 (scaled to [0, 1] per batch) or float; ``labels`` ``[N]`` or ``[N, K]``. Each
    epoch visits every image once; the last short batch is kept. ``augment`` gets float batches and must also normalise
    uint8 images. ``batches`` makes the batches of an epoch, augmented and labelled, in place of that, for each network
    its own; they too hold every image once, ``batch_size`` at a time. ``schedule`` maps the epoch (the fractional
    epoch with ``schedule_per_step``) to a factor of the optimiser's learning rate; ``restart_optimiser_at`` names
    epochs that begin with a new optimiser. ``step`` defaults to cross-entropy. ``test`` is called after each of
    ``test_epochs``, of networks with a moving average of their weights where its decay ``average`` is not 0.

    On a GPU the host waits for each loss; with ``losses`` off it does not, and there are none.

    All randomness of a network derives from its seed and the epoch, so it gets the same numbers, within rounding, by
    itself and among others, which takes an ``augment`` and a ``step`` of two parts each. A training resumed from the
    ``loop``'s checkpoint ends bit-identically on the same machine. Raises ``ValueError`` for an empty set, for a
    checkpoint of another training, and ``DivergedError`` if the loss stops being finite.
    """
    if len(images) == 0:
        raise ValueError("cannot train on an empty set")
    loop, several = loop or Loop(), len(networks) > 1
    for network in networks:
        network.to(device=loop.device, memory_format=torch.channels_last)
    network = Stacked(networks) if several else networks[0]
    images, labels = images.to(loop.device), labels.to(loop.device)
    augmented, factor, step = _augmentation(augment), schedule or constant(), step or hard_label_step()
    current, scaler = optimiser(network), LossScaler(loop.precision, loop.device)
    averaged = AveragedWeights(network, average) if average else None
    size = min(batch_size, len(images))
    steps = math.ceil(len(images) / size)
    # What was written without its draws apart is done step by step.
    apart = isinstance(augment, Operation | None) and isinstance(step, DrawnStep)
    ahead = images.is_cuda and apart
    reads = losses or not images.is_cuda

    if several and not apart:
        raise ValueError("networks can be trained at once where random numbers are drawn apart from what uses them")
    joins = several and batches is None and augmented.per_image

    def draw_batches(generator: torch.Generator) -> Iterator[tuple[Any, ...]]:
        for chosen in torch.randperm(len(images), generator=generator).split(size):
            yield chosen, augmented.draw((len(chosen), *images.shape[1:]), generator)

    def make_batch(chosen: Tensor, drawn: Any) -> Batch:
        x = augmented.apply(as_float(images[chosen]), *drawn)
        return Batch(x.contiguous(memory_format=torch.channels_last), labels[chosen], chosen)

    makes = [each.make for each in batches] if batches else [make_batch] * len(networks)

    def draw_numbers(place: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        generator = make_generator(seeds[place], epoch)
        for number, given in enumerate(batches[place].draw(epoch) if batches else draw_batches(generator)):
            shape = augmented.shape((min(size, len(images) - number * size), *images.shape[1:]))
            yield given, step.draw(shape, generator) if isinstance(step, DrawnStep) else (generator,)

    def draw(epoch: int) -> Iterator[tuple[Any, ...]]:
        """Yield what differs from step to step: the learning rate's factor, batches, the numbers of each loss."""
        each = (draw_numbers(place, epoch) for place in range(len(networks)))
        for number, numbers in enumerate(zip(*each, strict=True)):
            rate = factor(epoch + number / steps if schedule_per_step else epoch)
            given, drawn = zip(*numbers, strict=True)
            one = joined(given) if joins else None
            yield torch.tensor(rate) if ahead else rate, (one,) if one else given, drawn

    def make_batches(given: Sequence[Any]) -> list[Batch]:
        if len(given) == len(makes):
            return [make(*numbers) for make, numbers in zip(makes, given, strict=True)]
        parts = (tensor.chunk(len(makes)) for tensor in make_batch(*given[0]))  # joined
        return [Batch(*part) for part in zip(*parts, strict=True)]

    total = torch.zeros(len(networks), device=loop.device)
    compiled: Any = None

    def compile_network() -> Any:
        drawn = augmented.draw((size, *images.shape[1:]), make_generator(seeds[0]))
        example = make_batch(*moved((torch.arange(size), drawn), loop.device)).images
        # Of the whole training, also when resumed: compiled and plain arithmetic differ in the last digits.
        return compile_if_worth_it(network, example, epochs * len(images), compile, loop.precision)

    def take_step(rate: Any, given: Any, drawn: Any) -> None:
        _set_learning_rate(current, rate)
        each = make_batches(given)
        count = len(each[0].images)
        # A compiled graph is for one batch size; the short last batch runs as written.
        student = compiled if count == size else network
        with loop.autocast(), kernels():
            if isinstance(step, DrawnStep):
                asking = [step.asking(batch, *numbers) for batch, numbers in zip(each, drawn, strict=True)]
                losses = answered(asking, student if several else lambda images: [student(images[0])])
            else:
                losses = [step(student, each[0], *drawn[0])]
            loss = torch.stack(losses).sum() if several else losses[0]
        current.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(current)
        scaler.update()
        if averaged:
            averaged.update()
        total.add_((torch.stack(losses) if several else loss).detach() * count)

    graphs = Graphs(take_step, current) if ahead else None

    def train_epoch(epoch: int) -> dict[str, float]:
        nonlocal current, graphs
        if epoch in restart_optimiser_at:
            current = optimiser(network)
            graphs = graphs and Graphs(take_step, current)
        total.zero_()
        with seeded(seeds[0], epoch, _DROPOUT_STREAM):  # several have no dropout
            if ahead:
                for layout, row in moved_rows(draw(epoch), loop.device):
                    graphs(layout, row) if graphs else take_step(*unpacked(layout, row))
            else:
                for numbers in draw(epoch):
                    take_step(*moved(numbers, loop.device))
        for result, loss in zip(results, total.tolist() if reads else (), strict=reads):
            result.losses.append(loss / len(images))
        scaler.check(type(networks[0]).__name__)
        if test is not None and epoch in test_epochs:
            with averaged.swapped() if averaged else nullcontext():
                if isinstance(network, Stacked):
                    network.give_back(networks)
                for result, tested in zip(results, networks, strict=True):
                    result.tests.append((epoch, test(tested)))
        if isinstance(network, Stacked) and epoch == epochs - 1:
            network.give_back(networks)
        return {"loss": sum(result.losses[-1] for result in results) / len(results)} if reads else {}

    def signature() -> dict[str, Any]:
        return {
            "seed": list(seeds) if several else seeds[0],
            "epochs": epochs,
            "batch_size": batch_size,
            "images": len(images),
        }

    def state() -> dict[str, Any]:
        return {
            "signature": signature(),
            "network": network.state_dict(),
            "optimiser": current.state_dict(),
            "scaler": scaler.state_dict(),
            "results": [asdict(result) for result in results],
            **({"averages": averaged.averages} if averaged else {}),
        }

    def restore(state: dict[str, Any]) -> None:
        if state["signature"] != signature():
            raise ValueError(f"the checkpoint belongs to another training: {state['signature']}, not {signature()}")
        network.load_state_dict(state["network"])
        current.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        if averaged:
            averaged.restore(state["averages"])
        for result, kept in zip(results, state.get("results", [state]), strict=True):  # of one, once, without the list
            result.losses = kept["losses"]
            result.tests = [(int(epoch), accuracy) for epoch, accuracy in kept["tests"]]

    hint = "Try a lower learning rate (-o eval.lr=… where the evaluator has it), another network"
    work = Functions(train_epoch, state, restore)
    seeds: Sequence[int] = ()
    results: list[TrainResult] = []

    def run(given: Sequence[int]) -> list[TrainResult]:
        nonlocal seeds, results, compiled, current, scaler, averaged, graphs
        seeds, results = given, [TrainResult() for _ in networks]
        network.train()
        if compiled is None:
            compiled = network if several or compile == "never" else compile_network()
        elif current.state or scaler.is_enabled() or averaged:
            current, scaler = optimiser(network), LossScaler(loop.precision, loop.device)
            averaged = averaged and AveragedWeights(network, average)
            graphs = graphs and Graphs(take_step, current)
        loop.run(work, epochs, name=type(networks[0]).__name__, hint=hint)
        return results

    return run


def _augmentation(augment: Augment | None) -> Operation:
    if augment is None:
        return Operation(draw_nothing, lambda x: x)
    return augment if isinstance(augment, Operation) else Operation(lambda shape, generator: (generator,), augment)


def _set_learning_rate(optimiser: torch.optim.Optimizer, factor: float | Tensor) -> None:
    for group in optimiser.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor
