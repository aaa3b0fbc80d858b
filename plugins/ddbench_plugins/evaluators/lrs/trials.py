"""Single trainings as cached steps, for scores that compare several networks (DD-Ranking).

A training is found again by what determines it: its images, recipe, learning rate, seed and teachers. So methods share
the trainings on random images, an interrupted run resumes where it was, and nothing is trained twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddbench import DataError, Score, digest_bytes, step
from ddbench_plugins.evaluators.lrs import recipe as student_recipe
from ddbench_plugins.training import students
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.normalisation import constants
from ddbench_plugins.training.predict import evaluate_on, predict

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench import Context, DistilledSet, Done, Step
    from ddbench_plugins.evaluators.lrs.recipe import TrialRecipe
    from ddbench_plugins.teachers.observers import Observer
    from ddbench_plugins.training.steps import Batch

CORRECT = "correct.npy"
#: Learning rates of DD-Ranking's search (utils/misc.py).
RATES = (0.001, 0.005, 0.01, 0.05, 0.1)
#: Held-out images by which a learning rate is chosen: at most these, and at most a tenth of the training images.
VALIDATION_IMAGES = 1000


@dataclass(frozen=True)
class TrainingSet:
    """What a network is trained on.

    Attributes:
        name: in words, for the user.
        images: [N, C, S, S], uint8 or float in the [0, 1] scale.
        labels: [N], class indices.
        digest: of its content.
        ids: training images it holds, which cannot validate it.
        soft_labels: logits [N, K] that travel with it, or None.
    """

    name: str = field(compare=False)
    images: Tensor = field(compare=False)
    labels: Tensor = field(compare=False)
    digest: str
    ids: frozenset[str] = frozenset()
    soft_labels: Tensor | None = None


@dataclass(frozen=True)
class Trial:
    """A finished training.

    Attributes:
        lr: its learning rate.
        validation: accuracy on held-out training images, if it was measured.
    """

    done: Done
    lr: float
    validation: float | None = None

    def accuracy(self, selection: str) -> float:
        """Accuracy (fraction) on the test split after the last epoch, or the best of its tests."""
        return float(self.done.info["last"] if selection == "last" else self.done.info["best"])

    def score(self, metrics: dict[str, float]) -> Score:
        """Return it as the result of a protocol, with further figures."""
        info = self.done.info
        return Score(
            last=info["last"],
            best=info["best"] if len(info["curve"]) > 1 else None,
            correct=np.load(self.done.dir / CORRECT, allow_pickle=False),
            curve=[(epoch, accuracy) for epoch, accuracy in info["curve"]],
            metrics=metrics,
        )


@dataclass(frozen=True)
class Bench:
    """Where networks of one protocol are trained and tested.

    Attributes:
        normalisation: ``dataset`` or ``imagenet`` constants.
        teachers: whose mean logits are soft labels.
        seed: of initial weights, order and augmentation; the same for all trainings that are compared.
    """

    ctx: Context
    normalisation: str
    seed: int
    teachers: Sequence[Observer] = ()

    def train(
        self, data: TrainingSet, recipe: TrialRecipe, lr: float, *, test_resize: int | None, validate: bool
    ) -> Trial:
        """Train one network and test it, or find it finished."""
        ctx = self.ctx
        mean, std = constants(ctx.dataset, self.normalisation)
        recipe = recipe.canonical()
        stored = recipe.soft and data.soft_labels is not None
        training = Training(
            data=data if stored else replace(data, soft_labels=None),
            recipe=recipe,
            lr=lr,
            mean=tuple(mean),
            std=tuple(std),
            test_resize=test_resize or ctx.dataset.image_size,
            seed=self.seed,
            validate=validate,
            teachers=tuple(self.teachers) if recipe.soft and not stored else (),
        )
        labels = "soft" if recipe.soft else "hard"
        ctx.log(f"{data.name}, {labels} labels, {recipe.augmentation} augmentation, lr {lr:g}")
        done = trained(ctx, training)
        return Trial(done, lr, done.info["validation"])

    def best(
        self,
        data: TrainingSet,
        recipe: TrialRecipe,
        rates: Sequence[float],
        *,
        select: str,
        test_resize: int | None = None,
    ) -> Trial:
        """Train with every rate and return the best training.

        Args:
            data: what to train on.
            recipe: how.
            rates: one learning rate, or several to choose from.
            select: ``validation``: by accuracy on training images that are not in the set; ``last`` or ``best_test``:
                by that accuracy on the test split, as DD-Ranking does.
            test_resize: side to which test images are resized before the centre crop.
        """
        validate = select == "validation" and len(rates) > 1
        trials = [self.train(data, recipe, lr, test_resize=test_resize, validate=validate) for lr in rates]
        return max(trials, key=lambda t: t.validation if t.validation is not None else t.accuracy(select))

    def labels_of(self, images: Tensor) -> Tensor:
        """Return the teachers' mean logits [N, K] of images as they are."""
        mean, std = constants(self.ctx.dataset, self.normalisation)
        machine = self.ctx.machine
        logits = [
            predict(
                teacher.module(),
                images,
                transform=normalise(mean, std),
                precision=machine.precision,
                device=machine.device,
            )
            for teacher in self.teachers
        ]
        return torch.stack(logits).mean(0)


@dataclass(frozen=True)
class Training:
    """One training of a network, as what determines it.

    Attributes:
        data, recipe, lr: on what, and how.
        mean, std: of the inputs.
        test_resize: side to which test images are resized before the centre crop.
        seed: of initial weights, order and augmentation.
        validate: whether held-out training images are tested.
        teachers: whose mean logits are soft labels, where none come with the set.
    """

    data: TrainingSet
    recipe: TrialRecipe
    lr: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_resize: int
    seed: int
    validate: bool
    teachers: tuple[Observer, ...]

    def labeller(self, device: str) -> Any:
        """Return what labels a batch: the labels stored with the set, or the teachers."""
        if self.data.soft_labels is not None:
            stored = self.data.soft_labels.to(device)
            return lambda images, batch: stored[batch.indices]
        networks = [teacher.module() for teacher in self.teachers]

        def ask(images: Tensor, batch: Batch) -> Tensor:
            return torch.stack([network(images).float() for network in networks]).mean(0)

        return ask


@step(
    name="training",
    facts=["network"],
    seeds=lambda ctx, training: ["validation"] if training.validate else [],
)
def trained(ctx: Context, out: Step, training: Training) -> None:
    """Train one network and test it."""
    data, recipe, size = training.data, training.recipe, ctx.dataset.image_size
    mean, std, machine = training.mean, training.std, ctx.machine
    test_images, test_labels = students.test_tensors(ctx.dataset, size, training.test_resize)
    network = ctx.build_network(seed=training.seed)
    score = students.train_student(
        ctx,
        network,
        images=data.images,
        labels=data.labels,
        test_images=test_images,
        test_labels=test_labels,
        mean=mean,
        std=std,
        epochs=recipe.epochs,
        test_epochs=recipe.test_epochs(),
        seed=training.seed,
        augment=student_recipe.chain(recipe, size, mean, std, ctx.dataset.flip),
        batch_size=recipe.batch_size,
        optimiser=student_recipe.optimiser(recipe, training.lr),
        schedule=student_recipe.schedule(recipe),
        step=student_recipe.label_step(recipe, training.labeller(machine.device) if recipe.soft else None),
    )
    np.save(out.dir / CORRECT, np.asarray(score.correct))
    out.info.update(
        last=score.last,
        best=max(accuracy for _, accuracy in score.curve),
        curve=[list(point) for point in score.curve],
        validation=None,
    )
    if training.validate:
        images, labels = held_out(ctx, data.ids)
        out.info.update(validation=evaluate_on(ctx, network, images, labels, mean, std).accuracy)


def held_out(ctx: Context, ids: Collection[str]) -> tuple[Tensor, Tensor]:
    """Return training images [n, C, S, S] and labels that are not among ``ids``, nearly the same for every set.

    Raises:
        DataError: the set holds every training image.
    """
    split = ctx.dataset.train
    wanted = max(ctx.dataset.num_classes, min(VALIDATION_IMAGES, len(split) // 10))
    order = ctx.rng("validation").permutation(len(split)).tolist()
    chosen = [place for place in order if split.ids[place] not in ids][:wanted]
    if not chosen:
        raise DataError(
            "The set holds every training image, so none is left to choose a learning rate by.",
            hint="Give the learning rate with -o eval.lr=….",
        )
    return _tensors(split.images.batch(chosen, ctx.dataset.image_size), split.labels[chosen])


def distilled_set(ctx: Context, distilled: DistilledSet, *, stored_labels: bool) -> TrainingSet:
    """Return a distilled set for training; stored soft labels become logits (log p, the same for every softmax)."""
    images, labels = students.training_tensors(distilled, ctx.dataset, ctx.dataset.image_size)
    soft = None
    if stored_labels and distilled.soft_labels is not None:
        soft = torch.from_numpy(np.log(np.maximum(distilled.soft_labels, 1e-12)).astype(np.float32))
    digest = digest_bytes(images.contiguous().numpy(), labels.numpy())
    return TrainingSet("distilled set", images, labels, digest, frozenset(distilled.source_ids or ()), soft)


def random_set(
    ctx: Context, counts: Sequence[int], repeat: int, label: Callable[[Tensor], Tensor] | None = None
) -> TrainingSet:
    """Return random real images, ``counts`` of each class; they depend on the evaluation seed and repeat alone.

    ``label`` gives them soft labels to travel with them: images [N, C, S, S] uint8 → logits [N, K].
    """
    split = ctx.dataset.train
    chosen = [
        place
        for number, count in enumerate(counts)
        for place in ctx.rng("random set", repeat, number).permutation(split.of_class(number))[:count].tolist()
    ]
    images, labels = _tensors(split.images.batch(chosen, ctx.dataset.image_size), split.labels[chosen])
    ids = frozenset(split.ids[place] for place in chosen)
    digest = digest_bytes(images.contiguous().numpy(), labels.numpy())
    return TrainingSet("random real images", images, labels, digest, ids, label(images) if label else None)


def whole_set(ctx: Context) -> TrainingSet:
    """Return all training images."""
    images, labels = _tensors(*ctx.dataset.arrays("train"))
    return TrainingSet("all training images", images, labels, "train", frozenset(ctx.dataset.train.ids))


def _tensors(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
    return (
        torch.tensor(images.transpose(0, 3, 1, 2)),
        torch.tensor(labels),
    )
