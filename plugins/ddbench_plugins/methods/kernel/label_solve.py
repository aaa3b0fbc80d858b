"""Label Solve: the labels with which real images regress the training set best, in closed form (KIP.ipynb)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

import ddbench
from ddbench_plugins.methods.kernel.options import KernelOptions
from ddbench_plugins.methods.selection import ipc_of, select
from ddbench_plugins.training.whitening import normalisation_of, whitening_of, whitening_steps

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

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that labels are solved for."""
        return ("soft_labels", "centred")

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

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
        whitening = whitening_of(ctx)
        images, _ = training_tensors(chosen, data, data.image_size, whitening)
        support = rows(images, ctx, normalisation_of(ctx, chosen))
        labels = solved(ctx, support, Kernel(options.kernel, options.depth), whitening)
        made = replace(chosen, soft_labels=labels.float().cpu().numpy(), label_kind="centred")
        if whitening is None:
            return made
        return whitening.made(replace(made, images=whitening.whiten(chosen.images)))  # of no use on others


def solved(ctx: ddbench.Context, support: Tensor, kernel: Kernel, whitening: ddbench.Whitening | None = None) -> Tensor:
    """Return the labels [n, K] of support images [n, d]: (K_ss + r·I) (K_st K_ts + s·I)⁻¹ K_st U over all targets t."""
    import torch

    from ddbench_plugins.kernels.images import rows
    from ddbench_plugins.kernels.ridge import block_size, centred, regularised, solve
    from ddbench_plugins.training.normalisation import ZCA
    from ddbench_plugins.training.pixels import finite
    from ddbench_plugins.training.students import whitened

    options: LabelSolveOptions = ctx.options
    data, absolute = ctx.dataset, options.reg == "absolute"
    labels = torch.tensor(data.train.labels, device=support.device)
    squares, products = 0, 0
    done = 0
    with ctx.progress("solving for labels", len(labels)) as advance:
        for batch in data.train.images.batches(data.image_size, block_size(support)):
            images = torch.from_numpy(batch.transpose(0, 3, 1, 2))
            block = kernel(
                support, rows(images, ctx) if whitening is None else rows(whitened(images, whitening), ctx, ZCA)
            )
            squares = squares + block @ block.T
            products = products + block @ centred(labels[done : done + len(batch)], data.num_classes)
            done += len(batch)
            advance(done)
    own = regularised(kernel(support, support), options.ridge, absolute=absolute)
    return finite(own @ solve(regularised(squares, options.ridge, absolute=absolute), products), "the labels")
