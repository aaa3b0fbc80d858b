"""Protocols whose students are measured further, once trained: they are trained and tested exactly as without."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ddbench import Context, DistilledSet, Options, Protocol, Score
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.evaluators.dc.evaluator import Dc, DcOptions
from ddbench_plugins.evaluators.rded import Rded, RdedOptions

if TYPE_CHECKING:
    from ddbench_plugins.training.recipe import Measure

#: At paper scale all is measured; a CPU measures a part.
PAPER: dict[str, Any] = {
    "when": {"scale": "paper"},
    "set": {"severities": (1, 2, 3, 4, 5), "measured": None},
    "source": "Hendrycks and Dietterich 2019: the mean over five severities, all test images",
}


class RobustOptions(Options):
    """Options of the measurements; attacks as BEARD's ``eva_utils.py`` calls them."""

    epsilon: float = Field(8 / 255, ge=0, le=1, description="largest change of a pixel in [0, 1] by FGSM and PGD")
    attack_step: float = Field(2 / 255, ge=0, description="change of a pixel in one step of PGD")
    attack_steps: int = Field(10, ge=1, description="steps of PGD")
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        (3,), min_length=1, description="of each corruption, 1 to 5"
    )
    measured: int | None = Field(
        1000, ge=1, description="test images under corruptions and attacks, evenly from all; every one when none"
    )


class Robust(StudentEvaluator):
    """What the protocols here have in common; a subclass names the protocol as well."""

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        from ddbench_plugins.evaluators.robust.corruptions import SEVERITIES

        made, options = super().protocol(ctx, distilled), ctx.options
        measures = {name: getattr(options, name) for name in RobustOptions.model_fields}
        measures |= {"severities": list(options.severities), "corruptions": list(SEVERITIES), "bins": 15}
        return replace(made, settings={**made.settings, "measures": measures})

    def measure(self, ctx: Context) -> Measure:
        """Return the measurement of calibration, worst class, and accuracies under corruptions and attacks."""
        from ddbench_plugins.evaluators.robust.measures import measured

        return partial(measured, ctx)

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train, test and measure one student; of the whole training set, the reference network."""
        from ddbench_plugins.teachers.observers import get_teacher
        from ddbench_plugins.training.students import test_tensors

        score = super().evaluate(ctx, distilled, repeat)
        if not distilled.whole:
            return score
        trained = get_teacher(ctx, ctx.network, self.reference_normalisation(ctx), repeat=repeat, floor=False)
        tested = test_tensors(ctx.dataset, ctx.dataset.image_size)
        more = self.measure(ctx)(trained.module(), *tested, (trained.mean, trained.std))
        return replace(score, metrics={**score.metrics, **more})


class RobustRdedOptions(RobustOptions, RdedOptions):
    """Options of RDED's protocol and of what is measured."""


class RobustRded(Robust, Rded):
    """RDED's protocol."""

    Options = RobustRdedOptions
    presets = ("../rded.toml", PAPER)


class RobustDcOptions(RobustOptions, DcOptions):
    """Options of DC's protocol and of what is measured."""


class RobustDc(Robust, Dc):
    """DC's and DSA's protocol."""

    Options = RobustDcOptions
    presets = ("../dc/dc.toml", PAPER)
    whitens = False  # attacks and corruptions are of pixels in [0, 1]
