"""How one student is trained, as plain data: what a protocol states and what is done follow from the same fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ddbench_plugins.training.normalisation import constants

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ddbench import Context, Dataset, DistilledSet, Options, Score, Whitening
    from ddbench_plugins.training.streaming import StreamedImages


T = TypeVar("T")
#: Mean and standard deviation per channel.
Constants = tuple[Sequence[float], Sequence[float]]
#: ``(network, test images, labels, constants)`` → figures of a trained network.
Measure = Callable[["nn.Module", "Tensor | StreamedImages", "Tensor", Constants], dict[str, float]]


def from_options(kind: type[T], options: Options, /, **resolved: Any) -> T:
    """Return a dataclass with the options of the same names as its fields, but for those ``resolved`` otherwise."""
    names = {field.name for field in fields(kind)} - resolved.keys()  # type: ignore[arg-type]
    return kind(**{name: value for name, value in options if name in names}, **resolved)


def refuse_unused(ctx: Context, names: Collection[str], why: str) -> None:
    """Refuse options that the user set and that change nothing because of another one.

    Raises:
        UsageError: one of them is set.
    """
    from ddbench import UsageError

    for name in sorted(ctx.resolved.explicit.keys() & {*names}):
        raise UsageError(f"{why}, so that {name} changes nothing.", hint=f"Leave {name} out.")


def learned_rate(distilled: DistilledSet) -> float | None:
    """Return the learning rate of classifiers that a set has learned; that of a set with texts is a branch's."""
    return None if distilled.texts else distilled.learning_rate


def formation(factor: int, held: int) -> dict[str, str]:
    """Return what a protocol states of images that are cut into factor × factor others and hold ``held`` × ``held``.

    Nothing where they are read as their set says: which images a set holds is the method's, as their number is.
    """
    if factor == held:
        return {}
    return {"formation": f"{factor} × {factor} tiles, bilinear" if factor > 1 else "as stored"}


@dataclass(frozen=True, kw_only=True)
class StudentRecipe(ABC):
    """All that the training of one student depends on; torch is needed to train by it only, not to state it.

    Attributes:
        dataset: what the student is tested on.
        epochs, batch_size: passes over the distilled set, images per step.
        lr, weight_decay: of the optimiser.
        normalisation: name of the constants of the student's inputs.
        selection: which test counts.
    """

    dataset: Dataset
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    normalisation: str = "dataset"
    selection: str = "last"

    @classmethod
    def of(cls, ctx: Context, options: Options, /, **resolved: Any) -> Self:
        """Return the recipe that options give, with the protocol's own values ``resolved`` where they leave them."""
        return from_options(cls, options, dataset=ctx.dataset, **resolved)

    @property
    def constants(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel that normalise the student's inputs."""
        return constants(self.dataset, self.normalisation)

    @property
    def test_epochs(self) -> Sequence[int]:
        """0-based epochs with a test."""
        return [self.epochs - 1]

    @property
    def test_resize(self) -> int:
        """Side to which test images are resized before the centre crop."""
        return self.dataset.image_size

    @property
    def one_layout(self) -> bool:
        """Whether every step draws as many random numbers as any other, so that there is one CUDA graph of it."""
        return True

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        return {
            "label_type": "hard",
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "image_size": self.dataset.image_size,
            "normalisation": self.normalisation,
            "selection": self.selection,
        }

    def decoded(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and labels to train on, for those of the distilled set."""
        return images, labels

    @abstractmethod
    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return the rest of what :func:`ddbench_plugins.training.loop.train` is given: augmentation, optimiser, …"""

    def train(
        self,
        ctx: Context,
        images: Tensor,
        labels: Tensor,
        repeat: int,
        whitening: Whitening | None = None,
        measure: Measure | None = None,
    ) -> Score:
        """Train one student on the distilled images [N, C, S, S] and labels [N], and test it on images made alike.

        What ``measure`` finds of the trained student is added to the figures of the score.
        """
        from ddbench_plugins.training import students

        network, images, labels = self.network(ctx, repeat), *self.decoded(images, labels)
        shared = self._shared(images, labels, whitening)
        own = self.training(ctx, network, images, repeat)
        score = students.train_student(ctx, network, seed=ctx.seed("student", repeat), **shared, **own)
        return _measured(score, network, measure, shared)

    def train_together(
        self,
        ctx: Context,
        images: Tensor,
        labels: Tensor,
        repeats: Sequence[int],
        whitening: Whitening | None = None,
        measure: Measure | None = None,
    ) -> list[Score]:
        """Train the students of several repeats at once, each as :meth:`train` does."""
        from ddbench_plugins.training import students

        networks, (images, labels) = [self.network(ctx, repeat) for repeat in repeats], self.decoded(images, labels)
        shared, pairs = self._shared(images, labels, whitening), zip(networks, repeats, strict=True)
        own = [self.training(ctx, network, images, repeat) for network, repeat in pairs]
        batches = [each.pop("batches") for each in own] if "batches" in own[0] else None
        seeds = [ctx.seed("student", repeat) for repeat in repeats]
        scores = students.train_students(ctx, networks, seeds=seeds, batches=batches, **shared, **own[0])
        return [_measured(score, each, measure, shared) for score, each in zip(scores, networks, strict=True)]

    def network(self, ctx: Context, repeat: int) -> nn.Module:
        """Return the student of a repeat before its training."""
        network: nn.Module = ctx.build_network(seed=ctx.seed("student", repeat))
        return network

    def _shared(self, images: Tensor, labels: Tensor, whitening: Whitening | None) -> dict[str, Any]:
        from ddbench_plugins.training import students

        size, (mean, std) = self.dataset.image_size, self.constants
        test_images, test_labels = students.test_tensors(self.dataset, size, self.test_resize, whitening)
        return {
            "images": images,
            "labels": labels,
            "test_images": test_images,
            "test_labels": test_labels,
            "mean": mean,
            "std": std,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "test_epochs": self.test_epochs,
        }


def _measured(score: Score, network: nn.Module, measure: Measure | None, shared: dict[str, Any]) -> Score:
    if measure is None:
        return score
    more = measure(network, shared["test_images"], shared["test_labels"], (shared["mean"], shared["std"]))
    return replace(score, metrics={**score.metrics, **more})
