"""Label Solve: the labels with which real images regress the training set best, in closed form (KIP.ipynb)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

import ddbench
from ddbench_plugins.methods.kernel.options import KernelOptions
from ddbench_plugins.methods.selection import ipc_of, select

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.kernels.fully_connected import Kernel


class LabelSolveOptions(KernelOptions):
    """Options of Label Solve."""

    reg: Literal["trace", "absolute"] = Field(
        "trace",
        description="what the ridge is relative to: the mean of a matrix's diagonal, as when the set is evaluated; or"
        " the number of images, as in the notebook",
    )


class LabelSolve(ddbench.Distiller):
    """Random training images with the real-valued labels that minimise the regression's error on all of them."""

    Options = LabelSolveOptions
    presets = "label_solve.toml"

    def work(self, ctx: ddbench.Context) -> float:
        """Entries of the kernel."""
        return float(ctx.dataset.num_classes * (ctx.ipc or 1) * len(ctx.dataset.train))

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` training images per class, those of ``random`` with this seed, with their labels."""
        from ddbench_plugins.kernels.fully_connected import Kernel
        from ddbench_plugins.kernels.images import rows
        from ddbench_plugins.training.students import training_tensors

        options: LabelSolveOptions = ctx.options
        data, ipc = ctx.dataset, ipc_of(ctx)
        chosen = select(ctx, lambda label, members: ctx.rng("random", label).permutation(len(members))[:ipc])
        support = rows(training_tensors(chosen, data, data.image_size)[0], ctx)
        labels = solved(ctx, support, Kernel(options.kernel, options.depth))
        return replace(chosen, soft_labels=labels.float().cpu().numpy(), label_kind="centred")


def solved(ctx: ddbench.Context, support: Tensor, kernel: Kernel) -> Tensor:
    """Return the labels [n, K] of support images [n, d]: (K_ss + r·I) (K_st K_ts + s·I)⁻¹ K_st U over all targets t."""
    import torch

    from ddbench_plugins.kernels.images import rows
    from ddbench_plugins.kernels.ridge import block_size, centred, regularised, solve
    from ddbench_plugins.training.pixels import finite

    options: LabelSolveOptions = ctx.options
    data, absolute = ctx.dataset, options.reg == "absolute"
    labels = torch.tensor(data.train.labels, device=support.device)
    squares, products = 0, 0
    done = 0
    with ctx.progress("solving for labels", len(labels)) as advance:
        for batch in data.train.images.batches(data.image_size, block_size(support)):
            block = kernel(support, rows(torch.from_numpy(batch.transpose(0, 3, 1, 2)), ctx))
            squares = squares + block @ block.T
            products = products + block @ centred(labels[done : done + len(batch)], data.num_classes)
            done += len(batch)
            advance(done)
    own = regularised(kernel(support, support), options.ridge, absolute=absolute)
    return finite(own @ solve(regularised(squares, options.ridge, absolute=absolute), products), "the labels")
