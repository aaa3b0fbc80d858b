"""Random selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

import ddbench
from ddbench_plugins.methods.selection import ipc_of, select

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Random(ddbench.Distiller):
    """Real images, drawn without replacement per class; a smaller set is the beginning of a larger one of its seed."""

    class Options(ddbench.Options):
        """Options of random selection."""

        order: Literal["seeded", "first"] = Field(
            "seeded",
            description="'seeded' draws with the distillation seed; 'first' takes the first images in the data set's"
            " order, which is what the released code of IDC and Minimax calls random.",
        )

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Select ``ctx.ipc`` images per class."""
        ipc, seeded = ipc_of(ctx), ctx.options.order == "seeded"

        def choose(label: int, members: NDArray[np.int64]) -> NDArray[np.int64]:
            order = ctx.rng("random", label).permutation(len(members)) if seeded else np.arange(len(members))
            return order[:ipc]

        return select(ctx, choose)
