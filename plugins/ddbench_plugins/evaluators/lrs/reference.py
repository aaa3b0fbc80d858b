"""Accuracy of a network trained on all images with hard labels: by DD-Ranking's table or ddbench's recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ddbench_plugins.evaluators.lrs.recipe import TrialRecipe
from ddbench_plugins.teachers.observers import get_teacher, teacher_of

if TYPE_CHECKING:
    from ddbench import Context, StepCall
    from ddbench_plugins.evaluators.lrs.recipe import Optimiser, ScheduleName

Source = Literal["reference", "table", "official"]


@dataclass(frozen=True)
class Row:
    """How DD-Ranking trains a network on a whole training set."""

    optimiser: Optimiser
    lr: float
    weight_decay: float
    schedule: ScheduleName
    step_size: int
    epochs: int
    batch_size: int = 512

    def recipe(self, like: TrialRecipe, own_size: bool) -> TrialRecipe:
        """Return it as a recipe, augmented and tested as ``like``, with its epochs and batches if ``own_size``."""
        return TrialRecipe(
            soft=False,
            epochs=like.epochs if own_size else self.epochs,
            batch_size=like.batch_size if own_size else self.batch_size,
            optimiser=self.optimiser,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            step_size=self.step_size,
            augmentation=like.augmentation,
            mixup_alpha=like.mixup_alpha,
            mix_hard_labels=like.mix_hard_labels,
            test_every=like.test_every,
        ).canonical()


_CIFAR = Row("sgd", 0.01, 5e-4, "step", 100, 200)
#: (data set, network) → how (ddranking/config.py; its ResNet-18-BN is torchvision's).
TABLE = {
    ("imagenet-1k", "modified-resnet-18"): Row("sgd", 0.1, 1e-4, "step", 30, 90),
    ("tiny-imagenet", "modified-resnet-18"): Row("adamw", 0.01, 0.01, "half_cosine", 1, 100),
    ("tiny-imagenet", "convnet-4-bn"): Row("sgd", 0.01, 5e-4, "step", 50, 100),
    **{(data, network): _CIFAR for data in ("cifar10", "cifar100") for network in ("convnet-3", "convnet-3-bn")},
}
#: Accuracies that the released code keeps instead of training (a cache in ddranking/utils).
KEPT = {("imagenet-1k", "modified-resnet-18"): 0.565, ("tiny-imagenet", "modified-resnet-18"): 0.464}


def real_reference(
    ctx: Context, source: Source, like: TrialRecipe, *, normalisation: str, selection: str
) -> tuple[float, dict[str, Any]]:
    """Return the accuracy (fraction), and how it came about; one training, shared by all methods.

    Args:
        ctx: the run; its network is trained.
        source: ``reference``: the data set's own recipe, shared with teachers and method ``full``; ``table``:
            DD-Ranking's, where it knows data set and network; ``official``: as its released code does, that is a kept
            accuracy where there is one, else with the evaluator's own epochs and batches.
        like: the evaluator's own recipe: augmentation of batches, tests, and for ``official`` epochs and batches.
        normalisation: of inputs, ``dataset`` or ``imagenet``.
        selection: which accuracy of DD-Ranking's training counts, ``last`` or ``best_test``.
    """
    from ddbench import derive_seed
    from ddbench_plugins.evaluators.lrs.trials import Bench, whole_set

    key = ctx.dataset.name, ctx.network
    if source == "official" and key in KEPT:
        return KEPT[key], {"kept by the released code": KEPT[key]}
    row = _row(ctx, source)
    if row is None:
        teacher = get_teacher(ctx, ctx.network, normalisation, floor=False)
        return teacher.accuracy, teacher.describe()
    recipe = row.recipe(like, own_size=source == "official")
    bench = Bench(ctx, normalisation, derive_seed(0, "real"))
    trial = bench.best(whole_set(ctx), recipe, [row.lr], select="last")
    accuracy = trial.accuracy(selection)
    return accuracy, {"accuracy": round(accuracy, 4), "lr": row.lr, **recipe.to_dict()}


def shared_reference(ctx: Context, source: Source, normalisation: str) -> list[StepCall]:
    """Return the step of the network that :func:`real_reference` shares with teachers, where it does."""
    kept = source == "official" and (ctx.dataset.name, ctx.network) in KEPT
    return [] if kept or _row(ctx, source) else [teacher_of(ctx, ctx.network, normalisation)]


def _row(ctx: Context, source: Source) -> Row | None:
    return TABLE.get((ctx.dataset.name, ctx.network)) if source != "reference" else None
