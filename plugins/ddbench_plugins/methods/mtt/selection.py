"""The best of several distilled sets, by students on held-out training images (or, as released, on the test split)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import ddbench
from ddbench_plugins.datasets.split import stratified
from ddbench_plugins.methods.mtt.experts import augmentation
from ddbench_plugins.training import optimisers, schedules
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import train
from ddbench_plugins.training.normalisation import constants
from ddbench_plugins.training.predict import evaluate_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: Share of the training images that is held out, from the experts too.
HELD_OUT = 0.1
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


@dataclass(frozen=True)
class Students:
    """How the sets are compared: this many networks on each, trained as MTT's evaluation does."""

    network: str
    count: int = field(compare=False)  # of which a single one does not depend
    epochs: int
    batch_size: int
    augment: str
    normalisation: str


def hold_out(data: ddbench.Dataset) -> tuple[ddbench.Dataset, ddbench.Split]:
    """Return the data set without a tenth of its training images, always the same ones, and these."""
    rest, held = stratified(data.train.labels, data.train.ids, HELD_OUT, seed=0)
    fingerprint = ddbench.digest([data.fingerprint, "without", HELD_OUT])
    return replace(data, train=_part(data, rest), fingerprint=fingerprint), _part(data, held)


def best(
    ctx: ddbench.Context, candidates: Mapping[int, ddbench.DistilledSet], split: ddbench.Split, students: Students
) -> tuple[int, dict[str, float]]:
    """Return which candidate's students are best on ``split``, and the mean accuracy of each.

    Every candidate is keyed by the iterations it took; the earliest of equals wins.
    """
    data = ctx.dataset
    images = _tensor(split.images.batch(range(len(split)), data.image_size))
    labels = torch.tensor(split.labels)
    scores = {}
    for iterations, candidate in candidates.items():
        ctx.log(f"students of iteration {iterations}")
        numbers = range(students.count)
        steps = [mtt_student(ctx, candidate, students, number, images, labels) for number in numbers]
        scores[iterations] = float(np.mean([step.info["accuracy"] for step in steps]))
    winner = max(scores, key=lambda iterations: (scores[iterations], -iterations))
    return winner, {str(iterations): round(score, 4) for iterations, score in scores.items()}


@ddbench.step(seeds=["mtt student"])
def mtt_student(
    ctx: ddbench.Context,
    out: ddbench.Step,
    candidate: ddbench.DistilledSet,
    students: Students,
    number: int,
    images: Tensor,
    labels: Tensor,
) -> None:
    """Train one network on a candidate, by soft labels if it has them, and test it on held-out images [n, C, S, S]."""
    data, labelled = ctx.dataset, candidate.labels if candidate.soft_labels is None else candidate.soft_labels
    seed = ctx.seed("mtt student", number)
    network = ctx.build_network(students.network, seed=seed)
    with ctx.progress("student", students.epochs) as advance:
        train(
            network,
            images=_tensor(candidate.images),
            labels=torch.tensor(labelled),
            epochs=students.epochs,
            batch_size=students.batch_size,
            optimiser=optimisers.sgd(candidate.learning_rate or 0.01, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
            schedule=schedules.dc_step(students.epochs),
            seed=seed,
            augment=augmentation(data, students.augment, students.normalisation),
            loop=Loop.of(ctx, advance, out),
        )
    tested = evaluate_on(ctx, network, images, labels, *constants(data, students.normalisation))
    out.info.update(accuracy=tested.accuracy)


def _part(data: ddbench.Dataset, places: Any) -> ddbench.Split:
    train_split = data.train
    pixels = train_split.images.batch(places.tolist(), data.image_size)
    ids = tuple(train_split.ids[place] for place in places)
    return ddbench.Split(ddbench.ArrayImages(pixels), train_split.labels[places], ids)


def _tensor(images: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
