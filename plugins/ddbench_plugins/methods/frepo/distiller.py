"""FRePo: images and labels by which regression on the features of networks trained on them names training images."""

from __future__ import annotations

import math

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PRECISIONS, PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import whitening_steps


class FrepoOptions(PixelOptions):
    """Options of FRePo; the defaults are those of the released code."""

    network: str = Field(
        "frepo-convnet-3-bn",
        description="network whose features are regressed on",
        json_schema_extra={"names": "network", "fresh": True},
    )
    iterations: int = Field(500_000, ge=1, description="steps of the images and labels")
    pool: int = Field(10, ge=1, description="networks of different age, one of which is used in a step")
    updates: int = Field(100, ge=1, description="a network is replaced when it was trained once more than that")
    batch_real: int = Field(1024, ge=1, description="training images per step; all where there are fewer")
    lr_img: float = Field(
        3e-4,
        gt=0,
        description="learning rate of pixels and labels (LAMB): a step changes either by about this share of its norm;"
        " falls to a tenth by a cosine",
    )
    lr_iterations: int | None = Field(
        None, ge=1, description="iterations in which the learning rate falls; all of them when none"
    )
    lr_net: float = Field(3e-4, gt=0, description="learning rate of the networks (Adam)")
    ridge: float = Field(1e-6, ge=0, description="λ, relative to the mean of the kernel's diagonal")
    learn_labels: bool = Field(True, description="learn the labels, too, as real numbers")
    flip: bool | None = Field(
        None,
        description="regress on the mirror images, too; when none, where a mirrored image of the data set keeps its"
        " label",
    )


class FRePo(ddbench.Distiller):
    """Neural feature regression with pooling."""

    Options = FrepoOptions
    presets = "frepo.toml"
    precisions = PRECISIONS

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that labels are learned, where they are."""
        return ("soft_labels", "centred") if ctx.options.learn_labels else ()

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

    def work(self, ctx: ddbench.Context) -> float:
        """Images that go through a network."""
        options: FrepoOptions = ctx.options
        images = ctx.dataset.num_classes * (ctx.ipc or 1)
        return options.iterations * (options.batch_real + 6 * images)

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` optimised images per class, normalised and not clamped, with their labels if learned."""
        import torch

        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.matching.images import RealImages, initial_images
        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.frepo.lamb import Lamb
        from ddbench_plugins.methods.frepo.pool import Pool
        from ddbench_plugins.methods.frepo.regression import FeatureRegression, Settings
        from ddbench_plugins.methods.kernel.support import Support
        from ddbench_plugins.training.recipe import from_options

        options: FrepoOptions = ctx.options
        data, ipc, real = ctx.dataset, ipc_of(ctx), RealImages.of(ctx)
        support = Support(
            initial_images(real, ipc, "real", ctx.seed("frepo init")),
            ipc,
            lambda learned: Lamb(learned, options.lr_img),
            learn_labels=options.learn_labels,
            scale=label_scale(data.num_classes),
        )
        pool = Pool(fresh_networks(ctx, options.network), options.pool, options.updates, options.lr_net)
        falls = options.lr_iterations or options.iterations
        settings = from_options(
            Settings,
            options,
            lr_iterations=falls,
            flip=data.flip if options.flip is None else options.flip,
            precision=ctx.machine.precision,
            seed=ctx.seed("frepo steps"),
        )
        labels = torch.tensor(data.train.labels)
        return optimise(
            ctx,
            "feature regression",
            FeatureRegression(support, real, labels, pool, settings),
            support,
            iterations=options.iterations,
            without={"lr_iterations": falls},
        )


def label_scale(classes: int) -> float:
    """Return what one-hot − 1/K is multiplied by, so that labels of many classes are no larger than those of ten."""
    return 1 / math.sqrt(classes / 10)
