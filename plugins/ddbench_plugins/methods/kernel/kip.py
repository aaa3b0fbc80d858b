"""KIP: images, and labels, by which kernel ridge regression names training images (KIP.ipynb)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PixelOptions
from ddbench_plugins.methods.kernel.options import KernelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import whitening_steps


class KipOptions(PixelOptions, KernelOptions):
    """Options of KIP."""

    iterations: int = Field(1000, ge=1, description="steps of Adam; the notebook shows 300 and converges at about 1000")
    targets: int = Field(5000, ge=1, description="training images per step, the same number of each class")
    lr_img: float = Field(0.04, gt=0, description="learning rate of the pixels, and of the labels where learned")
    learn_labels: bool = Field(False, description="learn the labels, too, as real numbers")
    init: Literal["real", "noise"] = Field("real", description="what the images begin as: training images or N(0, 1)")


class KIP(ddbench.Distiller):
    """Kernel inducing points: the regression's error on training images, in closed form, is minimised by its images."""

    Options = KipOptions
    presets = "kip.toml"

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that labels are learned, where they are."""
        return ("soft_labels", "centred") if ctx.options.learn_labels else ()

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

    def work(self, ctx: ddbench.Context) -> float:
        """Entries of the kernel × steps."""
        options: KipOptions = ctx.options
        return ctx.dataset.num_classes * (ctx.ipc or 1) * options.targets * options.iterations

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` optimised images per class, normalised and not clamped, with their labels if learned."""
        import torch

        from ddbench_plugins.kernels.fully_connected import Kernel
        from ddbench_plugins.matching.images import RealImages, initial_images
        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.kernel.inducing import InducingPoints
        from ddbench_plugins.methods.kernel.support import Support

        options: KipOptions = ctx.options
        ipc, real = ipc_of(ctx), RealImages.of(ctx)
        begun = initial_images(real, ipc, options.init, ctx.seed("kip init"))
        support = Support(
            begun.double(),
            ipc,
            lambda learned: torch.optim.Adam(learned, options.lr_img),
            learn_labels=options.learn_labels,
        )
        kernel = Kernel(options.kernel, options.depth)
        work = InducingPoints(support, real, kernel, options.ridge, options.targets, ctx.seed("kip steps"))
        return optimise(ctx, "kernel inducing points", work, support, iterations=options.iterations)
