"""The evaluation of DD and SLDD: networks go through the stored steps and are tested; nothing else is trained.

Wang et al. 2018 (test_train_distilled_image.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench import Context, DataError, DistilledSet, Evaluator, Protocol, Schedule, Score, UsageError
from ddbench_plugins.training.whitening import normalisation_of, whitening_of, whitening_steps

if TYPE_CHECKING:
    from collections.abc import Collection

    from ddbench import StepCall

HINT = "Sets of dd and sldd have them; evaluate others by a protocol that trains as it likes."


class Replay(Evaluator):
    """The steps of the set's schedule, in their order and with their sizes, from its initialisation; tested once."""

    default_repeats = 20
    needs_network = False
    label_kinds = ("probabilities", "free")
    whitens = True

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse sets without steps."""
        if "schedule" not in holds:
            raise UsageError(f"Sets of {ctx.method} have no ordered steps to replay.", hint=HINT)

    def needs(self, ctx: Context, distilled: DistilledSet, repeat: int) -> list[StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx, distilled)

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        schedule = schedule_of(distilled)
        return Protocol(
            {
                "network": ctx.network,
                "replayed": schedule.network,
                "initialisation": schedule.initialisation,
                "initial_weights": "new" if free(schedule) else "those of the distillation",
                "label_type": "hard" if distilled.soft_labels is None else "soft",
                "loss": "cross-entropy",
                "steps": Protocol.LEARNED,
                "selection": "last",
                "normalisation": normalisation_of(ctx, distilled),
                "image_size": ctx.dataset.image_size,
            }
        )

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Take one network through the steps and test it."""
        import torch
        import torch.nn.functional as F

        from ddbench_plugins.kernels.images import normalised
        from ddbench_plugins.training.normalisation import constants
        from ddbench_plugins.training.predict import evaluate_on
        from ddbench_plugins.training.replay import begun, replay
        from ddbench_plugins.training.students import test_tensors, training_tensors

        data, schedule, whitening = ctx.dataset, schedule_of(distilled), whitening_of(ctx, distilled)
        normalisation = normalisation_of(ctx, distilled)
        images, labels = training_tensors(distilled, data, data.image_size, whitening)
        images = normalised(images, ctx, normalisation).float()
        soft = distilled.soft_labels
        targets = F.one_hot(labels, data.num_classes).float() if soft is None else torch.tensor(soft)
        network = begun(ctx, schedule, ctx.seed("replay", repeat))
        replay(network, images, targets.to(images.device), schedule)
        tested = evaluate_on(
            ctx, network, *test_tensors(data, data.image_size, whitening=whitening), *constants(data, normalisation)
        )
        return Score(tested.accuracy, tested.correct.numpy())


def free(schedule: Schedule) -> bool:
    """Return whether every network begins with weights of its own."""
    return schedule.seed is None and schedule.weights is None


def schedule_of(distilled: DistilledSet) -> Schedule:
    """Return the steps of a set.

    Raises:
        DataError: it has none.
    """
    if distilled.schedule is None:
        raise DataError("The distilled set has no ordered steps to replay.", hint=HINT)
    return distilled.schedule
