"""What a distilled set may hold besides images and labels: whitening, ordered steps, bases, texts, a similarity.

Each kind is a dataclass of plain values and arrays, so that sets are stored, digested and reordered without knowing
which kinds there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ddbench.files.schemas import first_flaw
from ddbench.plugin.images import ImageSource
from ddbench.plugin.whitening import Whitened

Content = TypeVar("Content")


class _Kind:
    """What :data:`CONTENTS` have in common but for :class:`Whitened`, which is plain."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)
    #: Arrays whose first axis goes by image.
    by_image: ClassVar[tuple[str, ...]] = ()

    def check(self, images: int) -> str:
        """Return what is wrong with it beside so many images, or an empty string."""
        for name, array in arrays(self).items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                return f"{name} of {array.dtype}, or with NaN or infinity, instead of finite float32"
            if name in self.by_image and len(array) != images:
                return f"{len(array)} {name} for {images} images"
        return ""


@dataclass(frozen=True)
class Schedule(_Kind):
    """Ordered steps of gradient descent, each with a learning rate of its own, and what they begin from (DD, SLDD).

    Attributes:
        batches: positions of the images of each batch.
        steps: (number of the batch, learning rate) of each step, in order.
        network: the registered network that is trained.
        initialisation: the law of its initial weights, in words, such as ``xavier normal, gain 1, bias 0``.
        seed: of the initial weights; None where each training draws its own.
        weights: the very initial weights, float32 [P], in the order of ``torch.nn.utils.parameters_to_vector``.
    """

    batches: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[int, float], ...]
    network: str
    initialisation: str
    seed: int | None = None
    weights: np.ndarray | None = None

    def check(self, images: int) -> str:
        """Return what is wrong with it beside so many images, or an empty string."""
        if not self.batches or not self.steps or not all(self.batches):
            return "no steps, or a batch without images"
        if any(not 0 <= place < images for batch in self.batches for place in batch):
            return f"a batch with images beyond the {images} that there are"
        if any(not 0 <= batch < len(self.batches) for batch, _ in self.steps):
            return f"a step on another batch than the {len(self.batches)} that there are"
        if any(not 0 < rate < math.inf for _, rate in self.steps):
            return "a learning rate that is no number above zero"
        if not self.network or not self.initialisation:
            return "no network or initialisation"
        if self.weights is not None and self.weights.ndim != 1:
            return f"weights of shape {list(self.weights.shape)} instead of [P]"
        return super().check(images)


@dataclass(frozen=True)
class Bases(_Kind):
    """Images as sums of small bases, enlarged (RTP): what is stored instead of the images.

    Attributes:
        bases: float32 [B, h, w, C].
        coefficients: float32 [N, B].
        scale: by which factor the sums are enlarged, bilinearly with pixel centres aligned.
    """

    by_image = ("coefficients",)

    bases: np.ndarray
    coefficients: np.ndarray
    scale: int = 1

    def check(self, images: int) -> str:
        """Return what is wrong with it beside so many images, or an empty string."""
        if self.bases.ndim != 4 or not self.bases.size or self.coefficients.shape[1:] != (len(self.bases),):
            return f"bases {list(self.bases.shape)} with coefficients {list(self.coefficients.shape)}"
        if self.scale < 1 or max(self.shape[1:3]) > ImageSource.LARGEST_SIDE:
            return f"a scale of {self.scale}, to {self.shape[1]}×{self.shape[2]} pixels"
        return super().check(images)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the images."""
        _, height, width, channels = self.bases.shape
        return len(self.coefficients), height * self.scale, width * self.scale, channels

    def decode(self) -> np.ndarray:
        """Return the images, float32 [N, h·scale, w·scale, C]."""
        _, height, width, channels = self.bases.shape
        sums = self.coefficients @ self.bases.reshape(len(self.bases), -1)
        small = sums.reshape(-1, height, width, channels)
        rows, columns = (_enlarging(side, self.scale) for side in (height, width))
        images: np.ndarray = np.einsum("yi,nijc,xj->nyxc", rows, small, columns, optimize=True)
        return np.ascontiguousarray(images, np.float32)


@dataclass(frozen=True)
class Texts(_Kind):
    """A text beside each image, as the vector that a frozen encoder makes of one (MVL, LoRS).

    The set's ``prompts`` may hold the nearest captions, for reading.

    Attributes:
        embeddings: float32 [N, D].
        encoder: name of the text encoder, without which the vectors mean nothing.
        weights: digest of its weights.
        pooling: how token vectors became one.
        learning_rate: the learned rate of the text branch; that of images is the set's.
    """

    by_image = ("embeddings",)

    embeddings: np.ndarray
    encoder: str
    weights: str
    pooling: str
    learning_rate: float | None = None

    def check(self, images: int) -> str:
        """Return what is wrong with it beside so many images, or an empty string."""
        if self.embeddings.ndim != 2 or not self.embeddings.size:
            return f"embeddings of shape {list(self.embeddings.shape)} instead of [N, D]"
        if not (self.encoder and self.weights and self.pooling):
            return "an encoder without name, digest of its weights or pooling"
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            return f"the learning rate {self.learning_rate} of texts"
        return super().check(images)


@dataclass(frozen=True)
class Similarity(_Kind):
    """How alike each image and each text are, in place of the identity: diag(a) + α/r · L Rᵀ (LoRS).

    Attributes:
        diagonal: a, float32 [N].
        left, right: L and R, float32 [N, r].
        alpha: α.
    """

    by_image = ("diagonal", "left", "right")

    diagonal: np.ndarray
    left: np.ndarray
    right: np.ndarray
    alpha: float

    def check(self, images: int) -> str:
        """Return what is wrong with it beside so many images, or an empty string."""
        if self.diagonal.ndim != 1 or self.left.ndim != 2 or self.left.shape != self.right.shape or not self.left.size:
            return f"a diagonal {list(self.diagonal.shape)} with {list(self.left.shape)} and {list(self.right.shape)}"
        if not math.isfinite(self.alpha):
            return f"the factor {self.alpha}"
        return super().check(images)

    def matrix(self) -> np.ndarray:
        """Return the similarity float32 [N, N] of images and texts."""
        whole: np.ndarray = np.diag(self.diagonal) + self.alpha / self.left.shape[1] * self.left @ self.right.T
        return whole.astype(np.float32)


#: Fields of a distilled set, in the order in which its digest takes them.
CONTENTS: Mapping[str, type] = {
    "whitening": Whitened,
    "schedule": Schedule,
    "bases": Bases,
    "texts": Texts,
    "similarity": Similarity,
}


def plain(content: Any) -> dict[str, Any]:
    """Return the values of a content that are no arrays; without those that are not there."""
    return {name: value for name, value in _values(content).items() if not isinstance(value, np.ndarray)}


def arrays(content: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a content."""
    return {name: value for name, value in _values(content).items() if isinstance(value, np.ndarray)}


def told(content: Any) -> dict[str, Any]:
    """Return a content as plain data for a record: shapes of its arrays, lengths of its lists."""
    shapes = {name: list(array.shape) for name, array in arrays(content).items()}
    return {name: len(value) if isinstance(value, tuple) else value for name, value in plain(content).items()} | shapes


def rebuilt(kind: type[Content], parts: Mapping[str, Any]) -> Content:
    """Return a content of plain values, as JSON keeps them, and arrays.

    Raises:
        ValueError: they do not fit its fields.
    """
    try:
        made: Content = TypeAdapter(kind).validate_python(dict(parts))
    except ValidationError as error:
        raise ValueError(f"{kind.__name__}: {first_flaw(error)}") from error
    return made


def reordered(content: Content, order: np.ndarray) -> Content:
    """Return a content for images that were put in another order: the new image n is the old image ``order[n]``."""
    moved: dict[str, Any] = {name: getattr(content, name)[order] for name in getattr(content, "by_image", ())}
    if isinstance(content, Schedule):
        place = np.argsort(order).tolist()
        moved["batches"] = tuple(tuple(place[image] for image in batch) for batch in content.batches)
    return replace(content, **moved) if moved else content  # type: ignore[type-var]


def _values(content: Any) -> dict[str, Any]:
    values = {each.name: getattr(content, each.name) for each in fields(content)}
    return {name: value for name, value in values.items() if value is not None}


def _enlarging(side: int, scale: int) -> np.ndarray:
    """Return the matrix float32 [side·scale, side] of bilinear enlargement along one axis."""
    centres = ((np.arange(side * scale) + 0.5) / scale - 0.5).clip(0, side - 1)
    low = np.minimum(centres.astype(int), max(side - 2, 0))
    weight = centres - low
    matrix = np.zeros((side * scale, side), np.float32)
    rows = np.arange(side * scale)
    matrix[rows, np.minimum(low + 1, side - 1)] = weight
    matrix[rows, low] += 1 - weight
    return matrix
