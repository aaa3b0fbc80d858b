"""What the protocols share: students trained by a recipe, and the reference network in place of the whole set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench import Context, DistilledSet, Evaluator, Protocol, Score, UsageError
from ddbench_plugins.training.whitening import whitening_of, whitening_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench import CachedStep, StepCall, Whitening
    from ddbench_plugins.training.recipe import Measure, StudentRecipe


class StudentEvaluator(Evaluator):
    """Trains students by the :meth:`recipe`; the whole training set has the reference network's protocol and score."""

    default_repeats = 3

    def steps(self, ctx: Context) -> list[CachedStep[Any] | StepCall]:
        """Return the steps that students use, such as those of their teachers."""
        return []

    def needs(self, ctx: Context, distilled: DistilledSet, repeat: int) -> list[CachedStep[Any] | StepCall]:
        """Return the students' steps, or the reference network."""
        from ddbench_plugins.teachers.observers import teacher_of

        if distilled.whole:
            return [teacher_of(ctx, ctx.network, self.reference_normalisation(ctx), repeat=repeat)]
        return [*self.steps(ctx), *whitening_steps(ctx, distilled)]

    def recipe(self, ctx: Context, distilled: DistilledSet) -> StudentRecipe:
        """Return how a student is trained; the protocol's own values are filled in."""
        raise NotImplementedError

    def extension(self, ctx: Context) -> str:
        """Say why this is not the published protocol, or nothing."""
        return ""

    def reference_normalisation(self, ctx: Context) -> str:
        """Return the constants of the inputs of the network that is trained on the whole set."""
        return getattr(ctx.options, "normalisation", "dataset")

    def settings(self, ctx: Context, distilled: DistilledSet) -> dict[str, Any]:
        """Return what the protocol states of a distilled set's students."""
        return self.recipe(ctx, distilled).settings()

    def measure(self, ctx: Context) -> Measure | None:
        """Return what measures more of a trained student than its accuracy, if anything does."""
        return None

    def score(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one student on a distilled set and test it."""
        images, labels, whitening = self._tensors(ctx, distilled)
        return self.recipe(ctx, distilled).train(ctx, images, labels, repeat, whitening, self.measure(ctx))

    def at_once(self, ctx: Context, distilled: DistilledSet, most: int | None) -> int:
        """Return how many students are trained at once: one, where a subclass has its own way of evaluating one."""
        from ddbench_plugins.training.stacking import at_once

        names = next(vars(kind).keys() for kind in type(self).__mro__ if {"evaluate", "score"} & vars(kind).keys())
        if "evaluate_together" not in names or distilled.whole:
            return 1
        return at_once(ctx, self.recipe(ctx, distilled), *self._tensors(ctx, distilled)[:2], most)

    def evaluate_together(self, ctx: Context, distilled: DistilledSet, repeats: Sequence[int]) -> list[Score]:
        """Train students at once and test each."""
        images, labels, whitening = self._tensors(ctx, distilled)
        return self.recipe(ctx, distilled).train_together(ctx, images, labels, repeats, whitening, self.measure(ctx))

    def _tensors(self, ctx: Context, distilled: DistilledSet) -> tuple[Tensor, Tensor, Whitening | None]:
        from ddbench_plugins.training.students import training_tensors

        whitening = whitening_of(ctx, distilled)
        return *training_tensors(distilled, ctx.dataset, ctx.dataset.image_size, whitening), whitening

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        from ddbench_plugins.teachers.observers import reference

        if distilled.whole:
            if ctx.dataset.zca:
                raise UsageError(
                    "The network of the whole training set is trained on images that are not whitened.",
                    hint="Leave data.zca out.",
                )
            return Protocol(reference(ctx, ctx.network, self.reference_normalisation(ctx)), self.extension(ctx))
        return Protocol({"network": ctx.network, **self.settings(ctx, distilled)}, self.extension(ctx))

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one student and test it."""
        from ddbench_plugins.teachers.observers import get_teacher

        if distilled.whole:
            normalisation = self.reference_normalisation(ctx)
            return get_teacher(ctx, ctx.network, normalisation, repeat=repeat, floor=False).score()
        return self.score(ctx, distilled, repeat)
