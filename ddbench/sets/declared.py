"""What a file of tensors does not state and its owner must: pixel space, constants, order of classes, which run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import DataError, UsageError, unknown
from ddbench.plugin.contracts import LABEL_KINDS
from ddbench.plugin.datasets import Dataset
from ddbench.plugin.ranges import doubt, misfit
from ddbench.plugin.whitening import RECIPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Before a recipe's name, in ``--space``.
ZCA = "zca:"
#: What ``--space`` takes.
SPACES = ("pixel01", "normalised", *(ZCA + name for name in RECIPES))
#: A larger share of values beyond what the declared space should hold is worth a warning.
SUSPICIOUS = 0.25

#: What an imported set's record says of its origin: an option of its method, and a table of its ``extra``.
IMPORTED = "imported"


@dataclass(frozen=True)
class Declared:
    """What the user declares about a third-party set.

    Attributes:
        space: one of :data:`SPACES`; empty when not declared.
        mean, std: constants of ``normalised``, per channel; the data set's when None.
        run: which of several sets in one file, counted from 0; negative counts from the end.
        classes: class ids or names in the order of the files' label numbers; the data set's order when empty.
        learning_rate: the learned rate of the student, where no file holds it.
        labels: what labels [N, K] are, one of :data:`ddbench.plugin.contracts.LABEL_KINDS`; probabilities when empty.
        factor: into how many images a side each stored one is decoded by its code base (IDC, DREAM, NCFM: 2), which the
            evaluator ``idc`` does; 1 for images as they are.
    """

    space: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    run: int | None = None
    classes: tuple[str, ...] = ()
    learning_rate: float | None = None
    labels: str = ""
    factor: int | None = None

    def __post_init__(self) -> None:
        if self.space == "zca":
            raise UsageError(
                "Whitened pixels cannot be read without their recipe.",
                hint="Name it: zca:mtt (MTT, FTD, DATM), zca:kip (KIP, Label Solve), zca:rfad, zca:frepo or zca:rtp.",
            )
        if self.space not in ("", *SPACES):
            raise unknown("pixel space", self.space, SPACES)
        if self.labels not in ("", *LABEL_KINDS):
            raise unknown("kind of labels", self.labels, LABEL_KINDS)
        if (self.mean is None) != (self.std is None):
            raise UsageError("--mean and --std must be given together.", hint="Give both --mean and --std, or neither.")
        if self.mean is not None and self.space != "normalised":
            raise UsageError("--mean and --std are for --space normalised.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise UsageError(f"A learned learning rate must be a number above zero, not {self.learning_rate}.")
        if self.factor is not None and not 1 <= self.factor <= 16:
            raise UsageError(f"A factor is a whole number from 1 to 16, not {self.factor}.")
        if not all(map(math.isfinite, (*(self.mean or ()), *(self.std or ())))):
            raise UsageError("A mean and a std must be numbers.")
        if self.std is not None and min(self.std, default=1.0) <= 0:
            raise UsageError(f"A std must be above zero, not {min(self.std)}.")

    @property
    def recipe(self) -> str:
        """The ZCA recipe of whitened pixels, or an empty string."""
        return self.space.removeprefix(ZCA) if self.space.startswith(ZCA) else ""

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) != field.default for field in fields(self))


@dataclass
class RawSet:
    """What was read from files, before anything is made of it.

    Attributes:
        kind: the format, in words.
        images: uint8 or float32 [N, S, S, C].
        labels: int64 [N].
        files: what was read.
        numbered: whether the labels are numbers from the files, not names that were matched.
        soft_labels: [N, K] probabilities, or what was declared; columns numbered like the labels.
        learning_rate: the learned rate of the student.
        run, runs: which of how many sets in the file.
        as_pictures: whether the pixels come from pictures.
        class_names: names of the label numbers in their order, where the files state them.
        prompts: one text per image.
    """

    kind: str
    images: NDArray[Any]
    labels: NDArray[np.int64]
    files: Sequence[Path]
    numbered: bool = True
    soft_labels: NDArray[np.float32] | None = None
    learning_rate: float | None = None
    run: int = 0
    runs: int = 1
    as_pictures: bool = False
    class_names: tuple[str, ...] = ()
    prompts: tuple[str, ...] | None = None


def read_pixels(
    raw: RawSet, declared: Declared, dataset: Dataset, warn: Callable[[str], None]
) -> tuple[NDArray[Any], str, dict[str, Any]]:
    """Return images, their space for a ``DistilledSet``, and what to record about it; nothing is ever clamped.

    Raises:
        UsageError: the space was not declared and cannot be known, or does not fit the files.
        DataError: values that no pixels of that space have, or whitened pixels of another size.
    """
    images, space, name = raw.images, declared.space, raw.files[0].name
    if images.dtype == np.uint8:
        if space not in ("", "pixel01"):
            what = "Pictures" if raw.as_pictures else "Whole numbers from 0 to 255"
            raise UsageError(f"{what} are ordinary pixels, not {space} ones.", hint="Leave --space out.")
        if mistake := misfit(images, "rgb_uint8", dataset):
            raise DataError(
                f"{name} has {mistake}.", hint="Were they cast after a division by 255? Save them from 0 to 255."
            )
        return images, "rgb_uint8", {"space": "rgb_uint8"}
    if declared.recipe:
        if images.shape[1:] != (dataset.image_size, dataset.image_size, dataset.channels):
            raise DataError(
                f"{name} has whitened images of {images.shape[1]}×{images.shape[2]}, but whitening goes by the"
                f" {dataset.image_size}×{dataset.image_size} of {dataset.name}.",
                hint="Choose the data set's size, where it has an option for it (-o data.size=…).",
            )
        return images.astype(np.float32), "zca", {"space": space}
    low, high = float(images.min()), float(images.max())
    if not space and not _as_bytes(low, high):
        raise UsageError(
            f"{name} does not state its pixel space; its values range from {low:.2f} to {high:.2f}.",
            hint="Give --space normalised (the files of DC, DSA, DM and MTT; --mean and --std if not by the data set's"
            " constants), --space pixel01 (values in [0, 1]), or --space zca:RECIPE (whitened; MTT --zca: zca:mtt).",
        )
    noted: dict[str, Any] = {"space": space}
    if space == "normalised":
        mean, std = declared.mean or dataset.mean, declared.std or dataset.std
        for option, values in (("--mean", mean), ("--std", std)):
            if len(values) not in (1, images.shape[-1]):
                raise UsageError(f"{option} has {len(values)} values for {images.shape[-1]} channels.")
        noted |= {"mean": list(mean), "std": list(std)}
        if low >= 0 and high <= 1:
            warn(
                "All values lie in [0, 1], which is unusual for normalised pixels: is it --space pixel01?"
                " Nothing was changed on that suspicion."
            )
        images = images * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    if misfit(images, "unit", dataset):
        what = f"{space} values" if space else "numbers"
        back = " after the normalisation is undone" if space == "normalised" else ""
        raise DataError(
            f"{name} holds {what} from {low:.4g} to {high:.4g}, which are no pixels in [0, 1]{back}.",
            hint="These are pixels from 0 to 255: save them as uint8, or divide them by 255 (--space pixel01)."
            if _as_bytes(low, high)
            else "See which scale they have, and how often they were normalised.",
        )
    outside = float(((images < 0) | (images > 1)).mean())
    if outside > SUSPICIOUS and space == "pixel01":
        warn(f"{outside:.0%} of the values lie outside [0, 1]: are they --space normalised? They are kept as they are.")
    elif space == "normalised" and (odd := doubt(images, "unit", dataset)):
        warn(f"With the normalisation undone, {odd}. They are kept as they are.")
    return images.astype(np.float32), "unit", noted | {"outside": round(outside, 4)}


def _as_bytes(low: float, high: float) -> bool:
    return low >= 0 and 16 < high <= 255
