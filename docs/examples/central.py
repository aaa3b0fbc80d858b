"""A distillation method in one file: the training images nearest to the mean image of their class."""

import numpy as np

from ddbench import DistilledSet, Distiller, MethodSpec, hookimpl


class Central(Distiller):
    seeded = False  # nothing is random: every seed gives the same set

    def distill(self, ctx):
        images, labels = ctx.dataset.arrays("train")  # uint8 [N, S, S, C] and int64 [N]
        chosen = []
        for label in range(ctx.dataset.num_classes):
            members = np.flatnonzero(labels == label)
            pixels = images[members].reshape(len(members), -1).astype(float)
            distance = ((pixels - pixels.mean(0)) ** 2).sum(1)
            chosen.extend(members[distance.argsort(kind="stable")[: ctx.ipc]])
        return DistilledSet(images[chosen], labels[chosen])


@hookimpl
def ddbench_methods():
    return [MethodSpec("central", Central, "images nearest to their class's mean image")]
