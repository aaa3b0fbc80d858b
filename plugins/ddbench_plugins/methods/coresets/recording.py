"""One training on all images of which is kept what it showed of each: a cached step that all coresets share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.func import functional_call, grad, vmap

import ddbench
from ddbench_plugins.teachers.recipes import TeacherRecipe, recipe_for
from ddbench_plugins.teachers.training import train_teacher
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.engine import Functions, Loop
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.predict import as_float, predict
from ddbench_plugins.training.steps import Batch, Forward, Step, hard_label_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Generator, Tensor, nn

    from ddbench_plugins.training.engine import Checkpoint

EARLY = "early.safetensors"
#: Images whose gradients are held at once.
TOGETHER = 50


def recipe_of(ctx: ddbench.Context, network: str, epochs: int | None) -> TeacherRecipe:
    """Return the recipe of the data set for a network, with another number of epochs if one is given."""
    recipe = recipe_for(ctx.dataset.name, network)
    return replace(recipe, epochs=epochs or recipe.epochs, flip=recipe.flip and ctx.dataset.flip)


def early_epoch(recipe: TeacherRecipe, epoch: int | None) -> int:
    """Return after how many epochs a network counts as an early one: a tenth of all, if not told.

    Raises:
        UsageError: the training is shorter.
    """
    if epoch and epoch > recipe.epochs:
        raise ddbench.UsageError(
            f"The early network is that after epoch {epoch}, but its training has {recipe.epochs}.",
            hint="Lower method.early, or raise method.epochs.",
        )
    return epoch or max(1, recipe.epochs // 10)


def _identity(ctx: ddbench.Context, network: str, epochs: int | None, early: int | None, run: int) -> dict[str, Any]:
    recipe = recipe_of(ctx, network, epochs)
    return {"recipe": recipe.to_dict(), "early": early_epoch(recipe, early)}


def _work(ctx: ddbench.Context, network: str, epochs: int | None, early: int | None, run: int) -> float:
    recipe = recipe_of(ctx, network, epochs)
    return 3 * len(ctx.dataset.train) * (early_epoch(recipe, early) if run else recipe.epochs)


@ddbench.step(identity=_identity, work=_work)
def recorded(
    ctx: ddbench.Context, out: ddbench.Step, network: str, epochs: int | None, early: int | None, run: int
) -> None:
    """Train a network by the recipe, noting at each presentation of an image whether it was right, and its margin.

    Number 0 is trained to the end; further ones end after the early epoch, as only early networks are averaged.

    Args:
        network: its name.
        epochs: instead of the recipe's.
        early: after which epoch the weights are kept.
        run: which independently trained network.
    """
    from safetensors.torch import save_file

    recipe = recipe_of(ctx, network, epochs)
    kept, seed = early_epoch(recipe, early), ddbench.derive_seed(0, "coreset", run)
    length = kept if run else recipe.epochs
    images, labels = _training_set(ctx)
    record = Record(len(images), length, out)

    def keep(module: nn.Module) -> float:
        weights = {name: value.contiguous().cpu() for name, value in module.state_dict().items()}
        save_file(weights, out.dir / EARLY)
        return record.accuracy(kept - 1)

    with ctx.progress(f"recorded {network}", length) as advance:
        train_teacher(
            ctx.build_network(network, seed=seed),
            images=images,
            labels=labels,
            recipe=recipe,
            mean=ctx.dataset.mean,
            std=ctx.dataset.std,
            seed=seed,
            loop=replace(Loop.of(ctx, advance), checkpoint=record),
            epochs=length,
            step=record.noted(hard_label_step(label_smoothing=recipe.label_smoothing)),
            test=keep,
            test_epochs=[kept - 1],
        )
    np.save(out.dir / "correct.npy", record.correct.numpy())
    np.save(out.dir / "margin.npy", record.margin.numpy())
    out.info.update(epochs=length, early=kept, accuracy=record.accuracy(length - 1))


class Record:
    """What is noted of n images in a training; as its checkpoint, it keeps the notes beside the state.

    Attributes:
        correct: bool [epochs, n], whether an image was recognised when it was presented, augmented.
        margin: [n], the probability of its class minus the highest other one, summed over presentations (AUM).
        seen: [n], presentations so far.
    """

    def __init__(self, images: int, epochs: int, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.correct = torch.zeros(epochs, images, dtype=torch.bool)
        self.margin, self.seen = torch.zeros(images), torch.zeros(images, dtype=torch.int64)

    def noted(self, step: Step) -> Step:
        """Return the same step, noting what the network says of the images."""

        def stepped(forward: Forward, batch: Batch, generator: Generator) -> Tensor:
            def watched(images: Tensor) -> Tensor:
                logits = forward(images)
                self._note(logits.detach().float().cpu(), batch.labels.cpu(), batch.indices.cpu())
                return logits

            return step(watched, batch, generator)

        return stepped

    def accuracy(self, epoch: int) -> float:
        """Return the share of images that were recognised in an epoch (from 0), augmented and in training."""
        return float(self.correct[epoch].double().mean())

    def load(self) -> dict[str, Any] | None:
        """Return the state of the training, and go on with its notes."""
        state = self._checkpoint.load()
        if state is not None:
            self.correct, self.margin, self.seen = state.pop("notes")
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the state of the training with the notes."""
        self._checkpoint.save({**state, "notes": [self.correct, self.margin, self.seen]})

    def _note(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        self.correct[self.seen[indices], indices] = logits.argmax(1) == labels
        probabilities, rows = logits.softmax(1), torch.arange(len(labels))
        own = probabilities[rows, labels]
        probabilities[rows, labels] = -1
        self.margin[indices] += own - probabilities.amax(1)
        self.seen[indices] += 1


def early_probabilities(ctx: ddbench.Context, recording: ddbench.Done, network: str) -> NDArray[np.float32]:
    """Return what the early network makes of all training images, not augmented: probabilities [n, K]."""
    data, machine = ctx.dataset, ctx.machine
    logits = predict(
        _early(ctx, recording, network),
        _training_set(ctx)[0],
        transform=normalise(data.mean, data.std),
        precision=machine.precision,
        device=machine.device,
    )
    probabilities: NDArray[np.float32] = logits.softmax(1).numpy()
    return probabilities


@ddbench.step(
    needs=lambda ctx, network, epochs, early, run: [recorded.of(ctx, network, epochs, early, run)],
    identity=_identity,
    work=lambda ctx, network, epochs, early, run: 3 * len(ctx.dataset.train),
)
def gradient_norms(
    ctx: ddbench.Context, out: ddbench.Step, network: str, epochs: int | None, early: int | None, run: int
) -> None:
    """Measure the gradient norm of each training image, not augmented, in the early network; arguments as before."""
    module = _early(ctx, recorded(ctx, network, epochs, early, run), network)
    images, labels = _training_set(ctx)
    scale, device = normalise(ctx.dataset.mean, ctx.dataset.std), ctx.machine.device
    batches = list(zip(images.split(TOGETHER), labels.split(TOGETHER), strict=True))
    norms = torch.zeros(len(images))

    def measure(number: int) -> dict[str, float]:
        shown, named = (moved(part, device) for part in batches[number])
        found = norms_of(module, scale.apply(as_float(shown)), named)
        norms[number * TOGETHER :][: len(found)] = found.cpu()
        return {"norm": float(found.mean())}

    def restore(state: dict[str, Any]) -> None:
        norms.copy_(state["norms"])

    with ctx.progress("gradient norms", len(batches)) as advance:
        Loop.of(ctx, advance, out).run(
            Functions(measure, lambda: {"norms": norms}, restore), len(batches), name="the early network"
        )
    np.save(out.dir / "norms.npy", norms.numpy())


def norms_of(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the norm [n] of the gradient of each image's cross-entropy by all parameters: GraNd, exactly, in float32.

    Args:
        network: in evaluation mode.
        images: [n, C, S, S], normalised.
        labels: [n].
    """
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, (parameters, buffers), (image[None],))
        return torch.nn.functional.cross_entropy(logits, label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
    return torch.stack([part.flatten(1).square().sum(1) for part in gradients.values()]).sum(0).sqrt()


def _early(ctx: ddbench.Context, recording: ddbench.Done, network: str) -> nn.Module:
    from safetensors.torch import load_file

    module: nn.Module = ctx.build_network(network, seed=0)
    module.load_state_dict(load_file(recording.dir / EARLY))
    return module.to(ctx.machine.device).eval()


def _training_set(ctx: ddbench.Context) -> tuple[Tensor, Tensor]:
    images, labels = ctx.dataset.arrays("train")
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), torch.tensor(np.asarray(labels))
