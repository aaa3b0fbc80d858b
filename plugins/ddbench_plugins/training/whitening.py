"""What a run whitens by: the recipe of a distilled set, or the one that the data set is to be used with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench_plugins.training.normalisation import ZCA

if TYPE_CHECKING:
    from ddbench import Context, DistilledSet, StepCall, Whitening


def recipe_of(ctx: Context, distilled: DistilledSet | None = None) -> str | None:
    """Return the recipe by which images are whitened, or None where they are normalised."""
    made = distilled.whitening if distilled else None
    return made.recipe if made else ctx.dataset.zca


def normalisation_of(ctx: Context, distilled: DistilledSet) -> str:
    """Return what protocols state of their students' inputs: ``zca kip``, else ``dataset``."""
    recipe = recipe_of(ctx, distilled)
    return ZCA + recipe if recipe else "dataset"


def whitening_steps(ctx: Context, distilled: DistilledSet | None = None) -> list[StepCall]:
    """Return the step that fits the recipe, for ``needs`` of a plugin; none where nothing is whitened."""
    from ddbench import Whitening

    recipe = recipe_of(ctx, distilled)
    return [Whitening.step(ctx, recipe)] if recipe else []


def refuse_whitening(ctx: Context, what: str) -> None:
    """Refuse a data set that is to be used whitened, where that would be ignored.

    Raises:
        UsageError: it is.
    """
    from ddbench import UsageError

    if ctx.dataset.zca:
        raise UsageError(
            f"{what} normalise their inputs, and cannot whiten them (data.zca={ctx.dataset.zca}).",
            hint="Leave data.zca out.",
        )


def whitening_of(ctx: Context, distilled: DistilledSet | None = None) -> Whitening | None:
    """Return the fitted recipe, or None; an imported set that seems to be another's is refused or warned of.

    Raises:
        DataError: the set was not whitened by its recipe.
    """
    from ddbench import Whitening

    recipe = recipe_of(ctx, distilled)
    whitening = Whitening.of(ctx, recipe) if recipe else None
    if whitening and distilled and distilled.whitening and "imported" in distilled.extra:
        whitening.check(distilled.images, ctx.warn)
    return whitening
