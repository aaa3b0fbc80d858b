"""What flows through ddbench: data sets, distilled sets, scores, protocols, and the classes that plugins derive from.

NumPy at the border, torch inside plugins. Accuracies are fractions in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ddbench.errors import PluginError, UsageError
from ddbench.images import ImageSource
from ddbench.keys import canonical, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddbench.context import Context
    from ddbench.embedding import Embedding
    from ddbench.options import Options

#: How the pixels of a distilled set are to be read. The wrong space silently gives chance accuracy.
PIXEL_SPACES = ("rgb_uint8", "unit", "normalized", "zca")


@dataclass(frozen=True)
class Split:
    """One split: images, labels int64 [N], and a stable id per image (its file name or index).

    Raises:
        TypeError: labels of another type or shape.
    """

    images: ImageSource
    labels: NDArray[np.int64]
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype != np.int64 or self.labels.ndim != 1:
            raise TypeError(f"the labels of a split must be a NumPy array int64 [N], not {describe(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def of_class(self, label: int) -> NDArray[np.int64]:
        """Return the positions of one class, in order."""
        return np.flatnonzero(self.labels == label)

    def counts(self, num_classes: int) -> list[int]:
        """Return the number of images per class."""
        return [int(count) for count in np.bincount(self.labels, minlength=num_classes)]


@dataclass(frozen=True)
class Dataset:
    """A data set whose class order and ids are owned by ddbench.

    Attributes:
        name: the registered name.
        class_names: readable, in label order.
        class_ids: stable ids in label order (synset ids for ImageNet), used to match teachers and distilled sets.
        image_size: side S that methods and evaluators see.
        mean, std: per channel, for pixels scaled to [0, 1].
        train, test: the splits; the test split is for evaluation only.
        fingerprint: digest of class ids, per-class counts and content; part of every key and record.
        origin: one sentence saying which files and which split these are; stored in every record.
        flip: whether a mirrored image keeps its label (a digit does not).
    """

    name: str
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    test: Split
    fingerprint: str
    origin: str
    flip: bool = True

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Image channels C (1 or 3)."""
        return self.train.images.channels

    def arrays(self, split: str, size: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return a whole split in memory: uint8 [N, S, S, C] and int64 [N]."""
        part = {"train": self.train, "test": self.test}[split]
        images = part.images.batch(range(len(part)), size or self.image_size)
        return images, part.labels

    def describe(self) -> dict[str, Any]:
        """Return the facts of this data set that go into keys and records."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "image_size": self.image_size,
            "channels": self.channels,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "class_ids": list(self.class_ids),
            "train_images": len(self.train),
            "test_images": len(self.test),
            "origin": self.origin,
        }


@dataclass(frozen=True)
class Budget:
    """How much a method may keep: images per class, or the whole training set (``ipc=None``)."""

    ipc: int | None

    def __str__(self) -> str:
        return "full" if self.ipc is None else str(self.ipc)


@dataclass(frozen=True)
class DistilledSet:
    """What a method returns.

    Attributes:
        images: uint8 [N, H, W, C] in space ``rgb_uint8`` (grey images included), float32 otherwise.
        labels: int64 [N], class-major.
        space: one of :data:`PIXEL_SPACES`; ``unit`` is float pixels in [0, 1] that may leave that range.
        source_ids: ids of the training images that were selected, for selection methods.
        prompts: one text per image, for text-guided methods.
        soft_labels: float [N, K] probabilities stored with the images, if the method makes them.
        learning_rate: a learned student learning rate that travels with the set.
        extra: small named arrays or figures a reader may want (plain data), e.g. acceptance figures.
        whole: the set is the whole training set (method ``full``); evaluators train by the reference recipe.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    space: str = "rgb_uint8"
    source_ids: tuple[str, ...] | None = None
    prompts: tuple[str, ...] | None = None
    soft_labels: NDArray[np.float32] | None = None
    learning_rate: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False

    def check(self, dataset: Dataset, budget: Budget, who: str) -> None:
        """Name the first contract violation.

        Raises:
            PluginError: shape, dtype, label range, count, order or NaN; the message names the method and the mistake.
        """
        images, labels = self.images, self.labels

        def broken(what: str, hint: str = "") -> PluginError:
            return PluginError(
                f"Method {who} returned a distilled set with {what}.", hint=hint or "See docs/plugins.md."
            )

        if self.space not in PIXEL_SPACES:
            raise broken(f"the unknown pixel space {self.space!r}", f"Known: {', '.join(PIXEL_SPACES)}.")
        for name, array in (("images", images), ("labels", labels), ("soft_labels", self.soft_labels)):
            if not isinstance(array, np.ndarray) and not (array is None and name == "soft_labels"):
                raise broken(f"{name} of type {type(array).__name__} instead of a NumPy array")
        if images.ndim != 4 or images.shape[-1] != dataset.channels:
            raise broken(f"images of shape {list(images.shape)} instead of [N, H, W, {dataset.channels}]")
        if images.shape[1] != images.shape[2]:
            raise broken(f"images of {images.shape[1]}×{images.shape[2]} pixels instead of square ones")
        wanted = np.dtype(np.uint8 if self.space == "rgb_uint8" else np.float32)
        if images.dtype != wanted:
            raise broken(f"{images.dtype} images instead of {wanted} (space {self.space})")
        if images.dtype != np.uint8 and not np.isfinite(images).all():
            raise broken("NaN or infinite pixels")
        if labels.ndim != 1 or labels.dtype != np.int64:
            raise broken(f"labels {describe(labels)} instead of int64 [N]")
        if len(labels) != len(images):
            raise broken(f"{len(images)} images but {len(labels)} labels")
        if len(labels) and (labels.min() < 0 or labels.max() >= dataset.num_classes):
            raise broken(f"labels from {labels.min()} to {labels.max()} outside 0…{dataset.num_classes - 1}")
        counts = np.bincount(labels, minlength=dataset.num_classes)
        if budget.ipc is not None and (counts != budget.ipc).any():
            worst = int(np.argmax(counts != budget.ipc))
            raise broken(f"{counts[worst]} images of class {dataset.class_names[worst]!r} instead of {budget.ipc}")
        if self.whole and len(images) != len(dataset.train):
            raise broken(f"{len(images)} images as the whole training set, which has {len(dataset.train)}")
        if 0 in counts:
            raise broken(f"no image of class {dataset.class_names[int(np.argmin(counts))]!r}")
        if not self.whole and (np.diff(labels) < 0).any():
            raise broken("labels that are not in class order", "Return the images sorted by label.")
        for name, values in (("source_ids", self.source_ids), ("prompts", self.prompts)):
            if values is not None and len(values) != len(images):
                raise broken(f"{len(values)} {name} for {len(images)} images")
        if self.soft_labels is not None:
            if self.soft_labels.shape != (len(images), dataset.num_classes):
                raise broken(f"soft labels of shape {list(self.soft_labels.shape)}")
            if not np.isfinite(self.soft_labels).all():
                raise broken("NaN or infinite soft labels")
            if self.soft_labels.min() < 0 or (abs(self.soft_labels.sum(1) - 1) > 0.01).any():
                raise broken("soft labels that are not probabilities", "Apply the softmax to logits.")
        if self.prompts is not None and not all(isinstance(prompt, str) for prompt in self.prompts):
            raise broken("prompts that are not text")
        if self.learning_rate is not None and not (isinstance(self.learning_rate, float) and self.learning_rate > 0):
            raise broken(f"the learning rate {self.learning_rate!r}", "It must be a float above zero, or None.")
        for name, value in self.extra.items():
            if mistake := not_plain(value):
                raise broken(f"an extra {name!r} that is not plain data: {mistake}", PLAIN)


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol as data: everything that a number depends on, for one cell.

    Attributes:
        settings: network, teacher and its accuracy, label type, epochs, batch, optimiser, schedule, augmentation,
            temperature, selection rule, …
        extension: why this is not the published protocol (such cells never share a column with published ones), or "".

    Raises:
        TypeError: a setting that is not plain data.
    """

    settings: Mapping[str, Any]
    extension: str = ""

    def __post_init__(self) -> None:
        for name, value in self.settings.items():
            if mistake := not_plain(value):
                raise TypeError(f"the protocol's setting {name!r} is not plain data: {mistake}")

    @property
    def digest(self) -> str:
        """Digest of all settings: results are comparable only when it is the same."""
        return digest({"settings": self.settings, "extension": self.extension})[:16]


@dataclass(frozen=True)
class Score:
    """The outcome of one repeat (one trained network).

    Attributes:
        last, best: accuracy after the last epoch, and the best of the tests made (None when only one test was made).
        correct: bool [N_test], which test images the network of the *last* epoch got right.
        curve: (epoch, accuracy) of every test, epochs counted from 1.
        metrics: further named fractions or figures.
    """

    last: float
    correct: NDArray[np.bool_]
    best: float | None = None
    curve: Sequence[tuple[int, float]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)

    def check(self, dataset: Dataset, who: str) -> None:
        """Name the first contract violation.

        Raises:
            PluginError: an accuracy outside [0, 1], a figure that is no number, or correctness of the wrong shape or
                disagreeing with the accuracy.
        """
        accuracies = [("last", self.last), *([] if self.best is None else [("best", self.best)])]
        for name, value in [*accuracies, *((f"curve[{epoch}]", value) for epoch, value in self.curve)]:
            if not isinstance(value, float | int | np.floating) or not 0 <= value <= 1:
                raise PluginError(
                    f"Evaluator {who} returned {name}={value!r}.",
                    hint="Accuracies are fractions in [0, 1], not percent.",
                )
        for name, value in self.metrics.items():
            if not isinstance(value, float | int | np.number) or not np.isfinite(value):
                raise PluginError(
                    f"Evaluator {who} returned the metric {name}={value!r}, which is not a finite number.",
                    hint="Leave out what could not be measured.",
                )
        correct = np.asarray(self.correct)
        if correct.dtype != np.bool_ or correct.shape != (len(dataset.test),):
            raise PluginError(
                f"Evaluator {who} returned correctness of {correct.dtype} {list(correct.shape)}"
                f" instead of bool [{len(dataset.test)}]."
            )
        if abs(float(correct.mean()) - self.last) > 1e-6:
            raise PluginError(
                f"Evaluator {who} reports last={self.last:.4f} but its per-image correctness averages"
                f" {correct.mean():.4f}."
            )


class Plugin:
    """What methods, evaluators, data sets and captioners have in common.

    Attributes:
        Options: the typed options (:class:`ddbench.Options`); defaults are those of the ``cpu+sane`` preset.
        presets: rules that set options by situation, as a list of tables or the name of a TOML file beside the class's
            module (docs/presets.md).
    """

    Options: ClassVar[type[Options] | None] = None
    presets: ClassVar[str | Sequence[Mapping[str, Any]]] = ()

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return what results depend on beyond the options (a file's content, a model's weights); part of their key."""
        return {}


class Distiller(Plugin, ABC):
    """A distillation method.

    Attributes:
        needs_ipc: False for a method that keeps the whole training set.
        seeded: False for a method whose result does not depend on the distillation seed.
    """

    needs_ipc: ClassVar[bool] = True
    seeded: ClassVar[bool] = True

    @abstractmethod
    def distill(self, ctx: Context) -> DistilledSet:
        """Distil ``ctx.dataset`` to ``ctx.ipc`` images per class."""

    def embedding(self, ctx: Context, label: int) -> Embedding | None:
        """Return what the method saw of one class, for ``ddbench tsne``, or None; the steps it needs are cached."""
        return None


class Evaluator(Plugin, ABC):
    """An evaluation protocol: trains networks on a distilled set and tests them on the real test split.

    Attributes:
        default_network: the network used when the user names none.
        default_repeats: networks trained per distilled set when the user says nothing.
    """

    default_network: ClassVar[str] = ""
    default_repeats: ClassVar[int] = 3

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """Return the network used on a data set when the user names none."""
        return self.default_network

    @abstractmethod
    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Return everything the numbers will depend on, before any student is trained."""

    @abstractmethod
    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one network (number ``repeat``) and test it."""


class DatasetLoader(Plugin, ABC):
    """A data set plugin."""

    @abstractmethod
    def load(self, ctx: Context, argument: str) -> Dataset:
        """Return the data set; ``argument`` is what follows the colon of a prefix name (``folder:PATH``)."""


class Captioner(Plugin, ABC):
    """Describes images in words.

    Attributes:
        deterministic: whether the same image always gets the same caption.
    """

    @abstractmethod
    def caption(self, ctx: Context, split: Split, class_names: Sequence[str], size: int) -> list[str]:
        """Return one caption per image of the split, in order."""


def check_ipc(dataset: Dataset, ipc: int) -> None:
    """Refuse a budget that the smallest class cannot fill.

    Raises:
        UsageError: IPC below 1 or larger than the smallest class.
    """
    counts = dataset.train.counts(dataset.num_classes)
    smallest = int(np.argmin(counts))
    if ipc < 1:
        raise UsageError(f"IPC must be at least 1, not {ipc}.")
    if ipc > counts[smallest]:
        raise UsageError(
            f"IPC {ipc} is larger than class {dataset.class_names[smallest]!r} of {dataset.name},"
            f" which has {counts[smallest]} training images.",
            hint=f"Choose an IPC of at most {counts[smallest]}.",
        )


#: The hint for values that cannot go into a key or a record.
PLAIN = "Plain data: text, finite numbers, booleans, None, lists and tables of these; no NumPy arrays or scalars."


def not_plain(value: Any) -> str:
    """Return why a value cannot go into a key or a record, or an empty string."""
    try:
        canonical(value)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def describe(value: Any) -> str:
    """Return type and shape of what was meant to be an array: ``float64 [10, 2]`` or ``list``."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
