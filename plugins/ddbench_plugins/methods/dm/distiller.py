"""DM: images whose mean features in random networks are those of the real images of their class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PRECISIONS, PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import whitening_steps

if TYPE_CHECKING:
    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.methods.dm.matching import DistributionMatching, Matching


class DmOptions(PixelOptions):
    """Options of DM; the defaults are those of the released code."""

    network: str = Field(
        "convnet-3",
        description="random network whose features are matched",
        json_schema_extra={"names": "network", "fresh": True},
    )
    iterations: int = Field(20000, ge=1, description="steps of SGD, each with a new network")
    batch_real: int = Field(256, ge=1, description="real images per class and step; all where a class has fewer")
    lr_img: float = Field(1.0, gt=0, description="learning rate of the pixels")
    init: Literal["real", "noise"] = Field("real", description="what the images begin as: training images or N(0, 1)")
    augment: Literal["dsa", "none"] = Field(
        "dsa", description="one operation per class and step, the same for its real and its synthetic images"
    )
    bn_joint: bool = Field(
        True,
        description="batch norm sees all classes in one batch, as in the released code; off: each class on its own"
        " (networks without batch norm do not care)",
    )
    extra_iteration: bool = Field(False, description="one step more than specified, as the released code runs")


def check_factor(ctx: ddbench.Context) -> None:
    """Refuse more images in a stored one than it has pixels, or than there are training images to begin with.

    Raises:
        UsageError: there are.
    """
    side, factor, ipc = ctx.dataset.image_size, ctx.options.factor, ipc_of(ctx)
    fewest = min(ctx.dataset.train.counts(ctx.dataset.num_classes))
    if factor > side:
        raise ddbench.UsageError(
            f"Images of {side} pixels cannot hold {factor} images in a row.", hint=f"Choose method.factor up to {side}."
        )
    if ctx.options.init == "real" and (needed := ipc * factor**2) > fewest:
        raise ddbench.UsageError(
            f"IPC {ipc} begins with {needed} training images of each class, {factor} × {factor} in an image, but a"
            f" class has {fewest}.",
            hint="Choose a smaller --ipc or method.factor, or begin with noise (-o method.init=noise).",
        )


class DM(ddbench.Distiller):
    """Distribution matching: no network is trained and no gradient is differentiated."""

    Options: ClassVar[type[DmOptions]] = DmOptions
    presets: ClassVar[tuple[str, ...]] = ("presets.toml",)
    precisions = PRECISIONS

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

    def work(self, ctx: ddbench.Context) -> float:
        """Images × steps."""
        options: DmOptions = ctx.options
        return ctx.dataset.num_classes * (ctx.ipc or 1) * options.iterations

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` optimised images per class, normalised and not clamped."""
        from ddbench_plugins.matching.images import RealImages
        from ddbench_plugins.matching.optimise import optimise

        options: DmOptions = ctx.options
        real = RealImages.of(ctx)
        images = self.images(ctx, real)
        return optimise(
            ctx,
            "matching distributions",
            self.matching(ctx, images, real),
            images,
            space=self.space(ctx),
            iterations=options.iterations + options.extra_iteration,
            without={"extra_iteration": False},
        )

    def space(self, ctx: ddbench.Context) -> str:
        """Return the space that the images are in."""
        return "normalized"

    def images(self, ctx: ddbench.Context, real: RealImages) -> SyntheticImages:
        """Return what is optimised, as it begins."""
        from ddbench_plugins.matching.images import SyntheticImages, initial_images

        options, ipc = ctx.options, ipc_of(ctx)
        return SyntheticImages(initial_images(real, ipc, options.init, ctx.seed("dm init")), ipc, options.lr_img)

    def matching(self, ctx: ddbench.Context, images: SyntheticImages, real: RealImages) -> DistributionMatching:
        """Return what is done again and again."""
        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.methods.dm.matching import DistributionMatching

        networks = fresh_networks(ctx, ctx.options.network, one_by_one=True)
        return DistributionMatching(images, real, networks, self.settings(ctx))

    @staticmethod
    def settings(ctx: ddbench.Context) -> Matching:
        """Return how a step of the matching is made."""
        from ddbench_plugins.matching.draws import strategy_for
        from ddbench_plugins.methods.dm.matching import Matching

        options: DmOptions = ctx.options
        return Matching(
            batch_real=options.batch_real,
            strategy=strategy_for(ctx.dataset) if options.augment == "dsa" else (),
            bn_joint=options.bn_joint,
            precision=ctx.machine.precision,
            seed=ctx.seed("dm steps"),
        )
