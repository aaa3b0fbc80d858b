"""The whole training set."""

from __future__ import annotations

import ddbench


class Full(ddbench.Distiller):
    """Keeps everything: what training on all data reaches under an evaluator's recipe."""

    needs_ipc = False
    seeded = False

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return all training images in the data set's order."""
        images, labels = ctx.dataset.arrays("train")
        return ddbench.DistilledSet(images, labels, source_ids=ctx.dataset.train.ids, whole=True)
