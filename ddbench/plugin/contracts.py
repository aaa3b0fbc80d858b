"""What plugins return: distilled sets, protocols and scores, each with the check of its contract.

NumPy at the border, torch inside plugins. Accuracies are fractions in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ddbench.errors import PluginError
from ddbench.files.reading import is_text
from ddbench.keys import canonical, digest
from ddbench.plugin.contents import CONTENTS, Bases, Schedule, Similarity, Texts, told
from ddbench.plugin.datasets import Dataset, describe
from ddbench.plugin.ranges import misfit
from ddbench.plugin.whitening import Whitened

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How the pixels of a distilled set are to be read. The wrong space silently gives chance accuracy.
PIXEL_SPACES = ("rgb_uint8", "unit", "normalized", "zca")
#: What the soft labels of a distilled set are: probabilities; real numbers that a regression is to reach, of which
#: those of a hard label would be one-hot − 1/K ("centred"); or real numbers of another meaning ("free"). The last two
#: sum to anything.
LABEL_KINDS = ("probabilities", "centred", "free")
#: What the IPC of a distilled set counts: exactly so many images of each class; or the numbers that so many images
#: have, of which the set stores no more, in whatever images.
COUNTED = ("images", "numbers")
#: What students are trained on, as protocols state it; "real": a regression on centred labels, learned or one-hot;
#: "texts": none, but a text beside each image.
LABEL_TYPES = ("hard", "soft", "real", "texts")
#: What every protocol states.
SETTINGS = ("network", "label_type", "selection")


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
        images: [N, S, S, C] of any S: uint8 in space ``rgb_uint8`` (also grey ones), float32 and finite otherwise.
        labels: int64 [N] in class order, exactly IPC of each class; of any number where ``counted`` is "numbers".
        space: ``rgb_uint8``; ``unit``: floats in [0, 1] that may leave that range; ``normalized``: by the data set's
            mean and standard deviation; ``zca``: whitened.
        whitening: by which recipe, fitted on what; for space ``zca`` alone.
        shown: uint8 [N, S, S, C], how the images are to be looked at where their numbers are no colours (space
            ``zca``); students see nothing of it.
        counted: what the IPC counts, one of :data:`COUNTED`.
        schedule: ordered steps with a learning rate each, and what they begin from.
        bases: what is stored instead of the images, which are decoded from it.
        texts: a text beside each image, as vectors.
        similarity: of images and texts.
        source_ids: ids of the training images that were selected, for selection methods.
        prompts: one text per image, for text-guided methods.
        soft_labels: float [N, K] stored with the images, if the method makes them.
        label_kind: what the soft labels are, one of :data:`LABEL_KINDS`.
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
    label_kind: str = "probabilities"
    whitening: Whitened | None = None
    shown: NDArray[np.uint8] | None = None
    counted: str = COUNTED[0]
    schedule: Schedule | None = None
    bases: Bases | None = None
    texts: Texts | None = None
    similarity: Similarity | None = None

    def __repr__(self) -> str:
        return f"<DistilledSet: images {'×'.join(map(str, np.shape(self.images)))} in space {self.space}>"

    def contents(self) -> dict[str, Any]:
        """Return what there is of :data:`ddbench.plugin.contents.CONTENTS`, by name."""
        return {name: content for name in CONTENTS if (content := getattr(self, name)) is not None}

    @property
    def holds(self) -> frozenset[str]:
        """What an evaluator may need of it, by name, as :meth:`ddbench.Distiller.holds` tells beforehand."""
        labels = () if self.soft_labels is None else ("soft_labels", self.label_kind)
        tiles = ("tiles",) if self.factor > 1 else ()
        return frozenset({*self.contents(), *labels, *tiles} - {LABEL_KINDS[0]})

    @property
    def factor(self) -> int:
        """How many images stand in a row of each one, which evaluators that decode cut apart."""
        return int(self.extra.get("factor") or 1)

    @property
    def numbers(self) -> int:
        """The numbers that the budget counts: those of the images as they are stored, and of texts with them."""
        images = self.images.size if self.bases is None else self.bases.bases.size + self.bases.coefficients.size
        texts = 0 if self.texts is None else self.texts.embeddings.size
        alike = self.similarity
        return images + texts + (0 if alike is None else alike.diagonal.size + alike.left.size + alike.right.size)

    def room(self, dataset: Dataset, ipc: int) -> int:
        """Return the numbers of ``ipc`` images per class of a data set, with texts of this set's width beside them."""
        width = 0 if self.texts is None else self.texts.embeddings.shape[1]
        return ipc * dataset.num_classes * (dataset.image_size**2 * dataset.channels + width)

    def besides(self) -> dict[str, Any]:
        """Return as plain data what a record says of it besides its images."""
        about = {name: told(content) for name, content in self.contents().items()}
        return about | ({} if self.counted == COUNTED[0] else {"numbers": self.numbers})

    def check(self, dataset: Dataset, budget: Budget, who: str) -> None:
        """Name the first contract violation.

        Raises:
            PluginError: shape, dtype, label range, count, order or NaN; the message names the method and the mistake.
        """
        images, labels = self.images, self.labels

        def broken(what: str, hint: str = "") -> PluginError:
            return PluginError(
                f"Method {who} returned a distilled set with {what}.", hint=hint or "See docs/plugins/interfaces.md."
            )

        if self.space not in PIXEL_SPACES:
            raise broken(f"the unknown pixel space {self.space!r}", f"Known: {', '.join(PIXEL_SPACES)}.")
        if self.counted not in COUNTED:
            raise broken(f"an IPC that counts {self.counted!r}", f"It counts {' or '.join(COUNTED)}.")
        if self.label_kind not in LABEL_KINDS or (self.soft_labels is None and self.label_kind != LABEL_KINDS[0]):
            raise broken(f"the label kind {self.label_kind!r}", f"Soft labels are {' or '.join(LABEL_KINDS)}.")
        for name, kind in CONTENTS.items():
            if not isinstance(getattr(self, name), kind | None):
                raise broken(f"{name} of type {type(getattr(self, name)).__name__} instead of {kind.__name__}")
        for name, array in (("images", images), ("labels", labels), ("soft_labels", self.soft_labels)):
            if not isinstance(array, np.ndarray) and not (array is None and name == "soft_labels"):
                raise broken(f"{name} of type {type(array).__name__} instead of a NumPy array")
        if images.ndim != 4 or images.shape[-1] != dataset.channels:
            raise broken(f"images of shape {list(images.shape)} instead of [N, H, W, {dataset.channels}]")
        if 0 in images.shape[1:3]:
            raise broken(f"images of {images.shape[1]}×{images.shape[2]} pixels")
        if images.shape[1] != images.shape[2]:
            raise broken(f"images of {images.shape[1]}×{images.shape[2]} pixels instead of square ones")
        wanted = np.dtype(np.uint8 if self.space == "rgb_uint8" else np.float32)
        if images.dtype != wanted:
            raise broken(f"{images.dtype} images instead of {wanted} (space {self.space})")
        if images.dtype != np.uint8 and not np.isfinite(images).all():
            raise broken("NaN or infinite pixels")
        if (self.space == "zca") != isinstance(self.whitening, Whitened):
            raise broken(f"space {self.space!r}, and whitening {self.whitening!r}", "Whitening.made gives both.")
        if self.whitening and self.whitening != Whitened.by(self.whitening.recipe, dataset):
            raise broken(
                f"pixels that {self.whitening.recipe} whitened for other training images than these of {dataset.name}",
                "Name the data set it was made from, with the same size and images, by --dataset.",
            )
        if self.shown is not None and (self.shown.dtype, self.shown.shape) != (np.dtype(np.uint8), np.shape(images)):
            raise broken(f"pictures {describe(self.shown)} to show images {describe(images)}")
        if not self.whole and (mistake := misfit(images, self.space, dataset)):
            raise broken(
                mistake, "Say in which space the pixels are, and scale them to it (docs/plugins/interfaces.md)."
            )
        if labels.ndim != 1 or labels.dtype != np.int64:
            raise broken(f"labels {describe(labels)} instead of int64 [N]")
        if len(labels) != len(images):
            raise broken(f"{len(images)} images but {len(labels)} labels")
        if len(labels) and (labels.min() < 0 or labels.max() >= dataset.num_classes):
            raise broken(f"labels from {labels.min()} to {labels.max()} outside 0…{dataset.num_classes - 1}")
        for name, content in self.contents().items():
            if mistake := getattr(content, "check", lambda images: "")(len(images)):
                raise broken(f"a {name} with {mistake}")
        if self.bases is not None:
            same = self.space != "rgb_uint8" and self.bases.shape == images.shape
            if not same or not np.allclose(self.bases.decode(), images, atol=1e-3):
                raise broken("images that its bases do not decode to", "images=bases.decode(), in a space of floats.")
        if (self.similarity is not None) > (self.texts is not None):
            raise broken("a similarity of images and texts, but no texts")
        counts = np.bincount(labels, minlength=dataset.num_classes)
        if self.counted == "numbers":
            if budget.ipc is not None and self.numbers > (room := self.room(dataset, budget.ipc)):
                raise broken(f"{self.numbers:,} numbers, where {budget.ipc} images per class have {room:,}")
        elif self.bases is not None:
            raise broken("bases and an IPC that counts images", 'Say counted="numbers".')
        elif budget.ipc is not None and (counts != budget.ipc).any():
            worst = int(np.argmax(counts != budget.ipc))
            raise broken(f"{counts[worst]} images of class {dataset.class_names[worst]!r} instead of {budget.ipc}")
        if self.whole and len(images) != len(dataset.train):
            raise broken(f"{len(images)} images as the whole training set, which has {len(dataset.train)}")
        if 0 in counts and self.counted == "images":
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
            off = self.soft_labels.min() < 0 or (abs(self.soft_labels.sum(1) - 1) > 0.01).any()
            if off and self.label_kind == "probabilities":
                raise broken("soft labels that are not probabilities", "Apply the softmax to logits.")
        for name, values in (("source_ids", self.source_ids), ("prompts", self.prompts)):
            wrong = None if values is None else next((text for text in values if not is_text(text)), None)
            if isinstance(wrong, str):
                raise broken(f"half a character (a lone surrogate) in its {name}: {ascii(wrong)[:80]}")
            if values is not None and not all(isinstance(text, str) for text in values):
                raise broken(f"{name} that are not text")
        if self.learning_rate is not None and not (
            isinstance(self.learning_rate, float) and 0 < self.learning_rate < math.inf
        ):
            raise broken(f"the learning rate {self.learning_rate!r}", "It must be a float above zero, or None.")
        if not isinstance(self.extra, Mapping):
            raise broken(f"an extra of type {type(self.extra).__name__} instead of a table", PLAIN)
        for name, value in self.extra.items():
            if mistake := not_plain({name: value}):
                raise broken(f"an extra {name!r} that is not plain data: {mistake}", PLAIN)


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol as data: everything that a number depends on, for one cell.

    Attributes:
        settings: network, teacher and its accuracy, label type, epochs, batch, optimiser, schedule, augmentation,
            temperature, selection rule, …
        extension: why this is not the published protocol (such cells never share a column with published ones), or "".
        LEARNED: what a setting says whose value travels with the distilled set (MTT's learning rate), so that all sets
            are measured under one protocol.

    Raises:
        TypeError: a setting that is not plain data.
    """

    settings: Mapping[str, Any]
    extension: str = ""
    LEARNED: ClassVar[str] = "learned with the set"

    def __post_init__(self) -> None:
        for name, value in self.settings.items():
            if mistake := not_plain(value):
                raise TypeError(f"the protocol's setting {name!r} is not plain data: {mistake}")

    def check(self, who: str, network: str = "") -> None:
        """Name a missing setting that readers of a record and of a table rely on.

        Args:
            who: the evaluator.
            network: the network under test.

        Raises:
            PluginError: there is one, or it is not text, or another network than the one that is trained.
        """
        missing = [name for name in SETTINGS if not isinstance(self.settings.get(name), str)]
        if missing:
            raise PluginError(
                f"Evaluator {who} has a protocol without {', '.join(missing)}.",
                hint=f"Every protocol specifies {', '.join(SETTINGS)}, as text.",
            )
        if self.settings["label_type"] not in LABEL_TYPES:
            raise PluginError(
                f"Evaluator {who} has a protocol with the label type {self.settings['label_type']!r}.",
                hint=f"It is one of {', '.join(LABEL_TYPES)}.",
            )
        if network and self.settings["network"] != network:
            raise PluginError(
                f"Evaluator {who} has a protocol for the network {self.settings['network']!r}, but trains {network!r}.",
                hint="Take the network's name from ctx.network.",
            )

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
        curve = [(int(epoch), value) for epoch, value in self.curve]
        for name, value in [*accuracies, *((f"curve[{epoch}]", value) for epoch, value in curve)]:
            if not isinstance(value, float | int | np.floating) or not 0 <= value <= 1:
                raise PluginError(
                    f"Evaluator {who} returned {name}={value!r}.",
                    hint="Accuracies are fractions in [0, 1], not percent.",
                )
        epochs = [epoch for epoch, _ in curve]
        if any(later <= epoch for epoch, later in zip([0, *epochs], epochs, strict=False)):
            raise PluginError(f"Evaluator {who} returned a curve whose epochs do not rise from 1: {epochs[:12]}.")
        if self.best is not None and self.best < max([self.last, *(value for _, value in curve)]) - 1e-6:
            raise PluginError(
                f"Evaluator {who} returned best={self.best:.4f}, which is below another of its accuracies.",
                hint="It is the best of all tests that were made, or None.",
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


#: The hint for values that cannot go into a key or a record.
PLAIN = "Plain data: text, finite numbers, booleans, None, lists and tables of these; no NumPy arrays or scalars."


def not_plain(value: Any) -> str:
    """Return why a value cannot go into a key or a record, or an empty string."""
    try:
        canonical(value).encode()
    except UnicodeEncodeError:
        return "text with half a character (a lone surrogate)"
    except (TypeError, ValueError) as error:
        return str(error)
    return ""
