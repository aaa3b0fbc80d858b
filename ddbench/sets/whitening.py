"""Whitening images by a ZCA recipe: fitted on the training split in float64, once, and applied to any image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ddbench.errors import DataError
from ddbench.plugin.whitening import RECIPES, VERSION, Whitened, ZcaRecipe
from ddbench.runtime.steps import step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddbench.plugin.contracts import DistilledSet
    from ddbench.plugin.datasets import Dataset
    from ddbench.runtime.context import Context
    from ddbench.runtime.steps import StepCall
    from ddbench.runtime.store import Step

#: Numbers of an image that can be whitened, those of 64×64 RGB: two matrices of their square are kept.
LARGEST = 64 * 64 * 3
BATCH = 1000
#: By which factor the mean square of whitened pixels may be off from that of the training split. Of random images of
#: CIFAR-10 it is by 1.06 to 1.11; of those of ``mtt`` taken for others, or others for them, by 3.2 to 4.5.
ODD, IMPOSSIBLE = 3.0, 1000.0
#: Share of the usual spread of images' norms below which they must have been divided by them. Of CIFAR-10 the spread is
#: 0.27, and at most 0.06 of images of ``kip`` and ``rtp`` that are taken for others.
EQUAL = 0.4
#: Spread of norms above which images cannot have been divided by them. Of real ones it is 0, of those that 60 steps of
#: KIP optimised 0.19, of those of other recipes 0.24 and more.
UNEQUAL = 0.22
#: By how much of the mean image, and how many standard errors, a set must miss what the recipe leaves of it.
MISSED, SURE = 0.25, 4.0


@dataclass(frozen=True)
class Whitening:
    """A fitted recipe.

    Attributes:
        space: what images are that it made.
        recipe: how.
        matrix: W, float32 [d, d]; d = S·S·C, in the order of an image [S, S, C].
        inverse: W⁻¹, float32 [d, d].
        channels: mean and standard deviation of channels that are removed first, float64 [2, C].
        average: the mean training image as it then is, float64 [d].
        square: mean square of the pixels of whitened training images.
        spread: standard deviation of training images' norms before whitening, relative to their mean.
    """

    space: Whitened
    recipe: ZcaRecipe
    matrix: NDArray[np.float32]
    inverse: NDArray[np.float32]
    channels: NDArray[np.float64]
    average: NDArray[np.float64]
    square: float
    spread: float

    @staticmethod
    def step(ctx: Context, recipe: str) -> StepCall:
        """Return the cached step that fits a recipe, for ``needs`` of a plugin."""
        # Whether the data set is used whitened does not matter here.
        return zca.of(ctx.with_dataset(replace(ctx.dataset, zca=None)), recipe)

    @classmethod
    def of(cls, ctx: Context, recipe: str) -> Self:
        """Return a recipe fitted on the training split of ``ctx.dataset``; the plugin at work must need its step."""
        done = cls.step(ctx, recipe).done()
        with np.load(done.dir / "zca.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("matrix", "inverse", "channels", "average")}
        space = Whitened.by(recipe, ctx.dataset)
        return cls(space, ZcaRecipe.of(recipe, ctx.dataset), **arrays, **done.info["usual"])

    @property
    def mean(self) -> NDArray[np.float64]:
        """What is subtracted before whitening, float64 [d]: the average, or zeros."""
        return self.average if self.recipe.centred else np.zeros_like(self.average)

    def whiten(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return images [n, S, S, C], uint8 or floats in [0, 1], whitened: float32."""
        white, mean = np.empty(images.shape, np.float32), self.mean
        for start in range(0, len(images), BATCH):
            rows = prepared(images[start : start + BATCH], self.recipe, self.channels) - mean
            white[start : start + BATCH] = (rows.astype(np.float32) @ self.matrix).reshape(-1, *images.shape[1:])
        return white

    def restore(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return whitened images [n, S, S, C] as they were before, in [0, 1].

        What ``per_image`` took from each cannot be given back: these have mean 0 and norm 1, with the channels'
        scale still removed.
        """
        back = self._unwhitened(images)
        if not self.recipe.per_image:
            back = back * self.channels[1].astype(np.float32) + self.channels[0].astype(np.float32)
        return back

    def shown(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return whitened images as uint8 [n, S, S, C] for looking at; ``per_image`` ones with the same contrast."""
        back = self.restore(images)
        if self.recipe.per_image:  # a norm of 1 is a standard deviation of 1/√d; a fifth is usual of pixels in [0, 1]
            back = back * (0.2 * np.sqrt(self.mean.size)) + 0.5
        return np.asarray(np.rint(np.clip(back, 0, 1) * 255), np.uint8)

    def check(self, images: NDArray[np.float32], warn: Callable[[str], None]) -> None:
        """Refuse, or warn of, images that another recipe seems to have whitened.

        Raises:
            DataError: they cannot be of this one.
        """
        hint = f"See which recipe made them: {', '.join(RECIPES)} whiten differently (docs/data/zca.md)."
        if mistake := self.misfit(images):
            raise DataError(f"The set was not whitened by {self.space.recipe}: {mistake}.", hint=hint)
        if odd := self.doubt(images):
            warn(f"Was the set whitened by {self.space.recipe}? {odd[0].upper()}{odd[1:]}. {hint}")

    def made(self, distilled: DistilledSet) -> DistilledSet:
        """Return a set of pixels that are whitened so, with what there is to look at."""
        return replace(distilled, space="zca", whitening=self.space, shown=self.shown(distilled.images))

    def misfit(self, images: NDArray[np.float32]) -> str:
        """Return why images cannot have been whitened by this recipe, or an empty string."""
        return self._scale(images, IMPOSSIBLE)

    def doubt(self, images: NDArray[np.float32]) -> str:
        """Return what looks odd about images whitened by this recipe, or an empty string."""
        if odd := self._scale(images, ODD):
            return odd
        name, rows = self.space.recipe, self._unwhitened(images).reshape(len(images), -1)
        spread = relative_spread(np.linalg.norm(rows, axis=1))
        if self.recipe.per_image:
            unequal = f"its images have norms that differ by {spread:.0%}, and {name} divides images by their norm"
            return unequal if spread > UNEQUAL else ""
        if spread < EQUAL * self.spread:
            return f"its images have nearly the same norm, and {name} does not divide images by their norm"
        direction = self.average @ self.matrix
        along = (images.reshape(len(images), -1) @ direction) / float(direction @ direction)
        missed = float(along.mean()) - (0.0 if self.recipe.centred else 1.0)
        if abs(missed) > max(MISSED, SURE * float(along.std()) / len(along) ** 0.5):
            subtracts = "subtracts" if self.recipe.centred else "does not subtract"
            return f"the mean of its images is off by {missed:+.1f} of the mean image, which {name} {subtracts}"
        return ""

    def _scale(self, images: NDArray[np.float32], most: float) -> str:
        ratio = float(np.square(images, dtype=np.float64).mean()) / self.square
        if 1 / most < ratio < most:
            return ""
        return f"its pixels' mean square is {ratio:.3g} times that of training images whitened by {self.space.recipe}"

    def _unwhitened(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = images.reshape(len(images), -1) @ self.inverse + self.mean.astype(np.float32)
        return rows.reshape(images.shape)


def prepared(images: NDArray[Any], recipe: ZcaRecipe, channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return images [n, S, S, C] as the rows [n, d] of which moments are taken, before the mean is subtracted."""
    pixels = images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)
    rows: NDArray[np.float64] = ((pixels - channels[0]) / channels[1]).reshape(len(images), -1)
    if recipe.per_image:
        rows = rows - rows.mean(1, keepdims=True)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(norms > 0, norms, 1.0)  # an image of one colour stays 0
    return rows


@step(
    version=2,
    identity=lambda ctx, recipe: {"version": VERSION},
    work=lambda ctx, recipe: float(len(ctx.dataset.train) * numbers(ctx.dataset) ** 2),
    disk=lambda ctx, recipe: 8 * numbers(ctx.dataset) ** 2,
)
def zca(ctx: Context, out: Step, recipe: str) -> None:
    """Fit a ZCA recipe on the training split.

    Raises:
        DataError: images of more numbers than :data:`LARGEST`.
    """
    data, how, d = ctx.dataset, ZcaRecipe.of(recipe, ctx.dataset), numbers(ctx.dataset)
    if d > LARGEST:
        raise DataError(
            f"Whitening takes two matrices of {d}² numbers for images of {data.image_size} pixels.",
            hint="Use images of at most 64×64 (-o data.size=64), or leave data.zca out.",
        )
    channels = measured(data, how)
    total, moments, norms, count, used = np.zeros(d), np.zeros((d, d)), [], 0, len(data.train)
    used -= min(how.held_out, used // 10)
    with ctx.progress(f"fitting ZCA ({recipe})", used) as advance:
        for batch in data.train.images.batches(data.image_size, BATCH):
            rows = prepared(batch[: used - count], how, channels)
            total += rows.sum(0)
            moments += rows.T @ rows
            norms.append(np.linalg.norm(rows, axis=1))
            count += len(rows)
            advance(count)
            if count == used:
                break
    average = total / used
    moments /= used
    if how.centred:
        moments -= np.outer(average, average)
    if how.absolute:  # kornia's are unbiased
        moments *= used / (used - 1)
    matrix, inverse, square = roots(moments, how, used)
    np.savez(
        out.dir / "zca.npz",
        matrix=matrix.astype(np.float32),
        inverse=inverse.astype(np.float32),
        channels=channels,
        average=average,
    )
    out.info.update(usual={"square": square, "spread": relative_spread(np.concatenate(norms))})


def roots(
    moments: NDArray[np.float64], recipe: ZcaRecipe, images: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return (moments + λ)^−½ and its inverse [d, d], and the mean square of whitened pixels."""
    values, vectors = np.linalg.eigh(moments)
    values = values.clip(0)
    factors = 1 / np.sqrt(values + (recipe.ridge if recipe.absolute else recipe.ridge * values.mean()))
    if recipe.full_rank and images < len(values):
        factors[: len(values) - images] = 1.0  # they rise, as eigh gives them
    square = float((values * factors**2).mean())
    return (vectors * factors) @ vectors.T, (vectors / factors) @ vectors.T, square


def measured(data: Dataset, recipe: ZcaRecipe) -> NDArray[np.float64]:
    """Return mean and standard deviation per channel [2, C] of all training images, as the recipe removes them."""
    if not recipe.standardised:
        return np.stack([np.zeros(data.channels), np.ones(data.channels)])
    sums, pixels = np.zeros((2, data.channels), np.int64), 0  # exact
    for batch in data.train.images.batches(data.image_size, BATCH):
        values = batch.reshape(-1, data.channels).astype(np.int64)
        sums += np.stack([values.sum(0), (values**2).sum(0)])
        pixels += len(values)
    mean = sums[0] / pixels
    spread = np.sqrt(sums[1] / pixels - mean**2)
    found = np.stack([mean, np.where(spread > 0, spread, 255.0)]) / 255
    return found.round(4) if recipe.standardised == "rounded" else found


def relative_spread(norms: NDArray[Any]) -> float:
    """Return the standard deviation of norms, relative to their mean."""
    return float(norms.std() / norms.mean())


def numbers(data: Dataset) -> int:
    """Return the numbers of an image."""
    return data.image_size**2 * data.channels
