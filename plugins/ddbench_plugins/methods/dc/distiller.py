"""DC and DSA: images whose gradients are those of the real images of their class, in networks trained on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PRECISIONS, PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import whitening_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.methods.dc.matching import GradientMatching, Matching


class DcOptions(PixelOptions):
    """Options of DC; the defaults are those of the released code."""

    network: str = Field(
        "convnet-3",
        description="network whose gradients are matched",
        json_schema_extra={"names": "network", "fresh": True},
    )
    iterations: int = Field(1000, ge=1, description="networks that are begun and trained, one after the other")
    outer: int = Field(20, ge=1, description="matching steps per network")
    inner: int = Field(25, ge=1, description="epochs on the synthetic images between two matching steps")
    batch_real: int = Field(256, ge=1, description="real images per class and step; all where a class has fewer")
    batch_train: int = Field(256, ge=1, description="synthetic images per step of the network")
    lr_img: float = Field(0.1, gt=0, description="learning rate of the pixels; 0.01 for an MLP in the released code")
    lr_net: float = Field(0.01, gt=0, description="learning rate of the network (SGD without momentum or decay)")
    metric: Literal["rows", "mse", "cos"] = Field(
        "rows",
        description="distance of gradients: 1 − cosine per output unit and layer (ours in the released code), squared"
        " differences, or 1 − cosine of all as one vector",
    )
    init: Literal["real", "noise"] = Field("noise", description="what the images begin as: training images or N(0, 1)")
    augment: Literal["dsa", "none"] = Field(
        "none",
        description="one operation per class and step, the same for its real and its synthetic images; while the"
        " network is trained, with parameters per image",
    )
    joint_step: bool = Field(
        False,
        description="add up the losses of all classes before one backward pass, as the released code: the same step,"
        " but the graphs of all classes are in memory",
    )
    extra_iteration: bool = Field(False, description="one iteration more than specified, as the released code runs")


class DsaOptions(DcOptions):
    """Options of DSA: DC with augmentation, begun from training images."""

    init: Literal["real", "noise"] = Field("real", description=DcOptions.model_fields["init"].description)
    augment: Literal["dsa", "none"] = Field("dsa", description=DcOptions.model_fields["augment"].description)


class DC(ddbench.Distiller):
    """Gradient matching."""

    Options: ClassVar[type[DcOptions]] = DcOptions
    presets: ClassVar[str | tuple[str, ...]] = "presets.toml"
    precisions = PRECISIONS

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

    def work(self, ctx: ddbench.Context) -> float:
        """Images × steps."""
        options: DcOptions = ctx.options
        return ctx.dataset.num_classes * (ctx.ipc or 1) * options.iterations * options.outer

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` optimised images per class, normalised and not clamped."""
        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images
        from ddbench_plugins.matching.optimise import optimise

        options: DcOptions = ctx.options
        ipc = ipc_of(ctx)
        real = RealImages.of(ctx)
        images = SyntheticImages(initial_images(real, ipc, options.init, ctx.seed("dc init")), ipc, options.lr_img)
        work = self.matching(ctx, images, real, fresh_networks(ctx, options.network, one_by_one=True))
        return optimise(
            ctx,
            "matching gradients",
            work,
            images,
            iterations=options.iterations + options.extra_iteration,
            steps=options.outer,
            without={"extra_iteration": False},
        )

    @staticmethod
    def settings(ctx: ddbench.Context) -> Matching:
        """Return how a step of the matching is made."""
        from ddbench_plugins.matching.draws import strategy_for
        from ddbench_plugins.methods.dc.matching import Matching
        from ddbench_plugins.training.recipe import from_options

        return from_options(
            Matching,
            ctx.options,
            strategy=strategy_for(ctx.dataset) if ctx.options.augment == "dsa" else (),
            precision=ctx.machine.precision,
            seed=ctx.seed("dc steps"),
        )

    def matching(
        self, ctx: ddbench.Context, images: SyntheticImages, real: RealImages, networks: Callable[[int], nn.Module]
    ) -> GradientMatching:
        """Return what is done again and again."""
        from ddbench_plugins.methods.dc.matching import GradientMatching

        return GradientMatching(images, real, networks, self.settings(ctx))


class DSA(DC):
    """Gradient matching under Siamese augmentation."""

    Options: ClassVar[type[DcOptions]] = DsaOptions
