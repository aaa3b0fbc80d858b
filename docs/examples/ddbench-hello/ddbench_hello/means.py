"""Averages of groups of images: the simplest synthetic (not selected) distilled set."""

import numpy as np
from pydantic import Field

from ddbench import Context, DistilledSet, Distiller, Options


class MeansOptions(Options):
    """Options of the method."""

    group: int = Field(5, ge=1, description="training images that are averaged into one")


class Means(Distiller):
    """Each distilled image is the average of ``group`` random training images of its class."""

    Options = MeansOptions

    def distill(self, ctx: Context) -> DistilledSet:
        """Average ``ctx.ipc`` groups per class; a group may share images with another."""
        data, rng = ctx.dataset, ctx.rng("groups")
        images = []
        with ctx.progress("averaging", data.num_classes) as advance:
            for label in range(data.num_classes):
                members = data.train.of_class(label)
                for _ in range(ctx.ipc):
                    group = rng.choice(members, min(ctx.options.group, len(members)), replace=False)
                    images.append(data.train.images.batch(group, data.image_size).mean(0).round())
                advance(label + 1)
        labels = np.repeat(np.arange(data.num_classes), ctx.ipc)
        return DistilledSet(np.stack(images).astype(np.uint8), labels)
