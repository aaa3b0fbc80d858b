"""IDM: several images in one, matched in networks in training, which also name them (Zhao et al. 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

import ddbench
from ddbench_plugins.methods.dm.distiller import DM, DmOptions, check_factor
from ddbench_plugins.methods.selection import ipc_of

if TYPE_CHECKING:
    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.methods.dm.matching import DistributionMatching, Matching


class IdmOptions(DmOptions):
    """Options of IDM; the defaults are those of the released code for CIFAR-10. With ``factor=1 queue=0
    step_per_class=false`` they are DM's."""

    lr_img: float = Field(0.2, gt=0, description="learning rate of the pixels")
    factor: int = Field(
        2, ge=1, description="factor × factor training images in each stored image, which networks see one by one"
    )
    queue: int = Field(
        100, ge=0, description="networks in training at most, the oldest leaves; 0: a new random one for each step"
    )
    begin: int = Field(
        4, ge=1, description="networks that the queue begins with: three, and one added before the first iteration"
    )
    push_every: int = Field(30, ge=1, description="iterations between two new networks")
    trained: int = Field(2, ge=0, description="different networks that are trained after each iteration")
    train_steps: int = Field(10, ge=1, description="steps of each, on real images that are not augmented")
    batch_train: int = Field(256, ge=1, description="real images per step")
    lr_net: float = Field(0.01, gt=0, description="learning rate of the networks (SGD, momentum 0.9, decay 5e-4)")
    ce_weight: float = Field(
        0.5,
        ge=0,
        description="weight of the cross-entropy of the synthetic images, times the network's accuracy in percent on"
        " the batches it was trained on",
    )
    step_per_class: bool = Field(True, description="a step after each class; off: one for all classes")


class IDM(DM):
    """Improved distribution matching."""

    Options: ClassVar[type[DmOptions]] = IdmOptions
    presets: ClassVar[tuple[str, ...]] = ("presets.toml", "idm.toml")

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse more images than an image can hold, or a class has."""
        check_factor(ctx)

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that images hold several, where they do."""
        return ("tiles",) if ctx.options.factor > 1 else ()

    def images(self, ctx: ddbench.Context, real: RealImages) -> SyntheticImages:
        """Return DM's images, several in each."""
        from ddbench_plugins.methods.dm.tiled import TiledImages, initial_tiles

        options, ipc = ctx.options, ipc_of(ctx)
        begun = initial_tiles(real, ipc, options.factor, options.init, ctx.seed("dm init"), mode="bilinear")
        return TiledImages(begun, ipc, options.lr_img, options.factor)

    @staticmethod
    def settings(ctx: ddbench.Context) -> Matching:
        """Return how a step of the matching is made."""
        return replace(DM.settings(ctx), step_per_class=ctx.options.step_per_class)

    def matching(self, ctx: ddbench.Context, images: SyntheticImages, real: RealImages) -> DistributionMatching:
        """Return DM's matching, in networks of a queue."""
        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.methods.dm.queue import NetworkQueue, Queue, QueueMatching
        from ddbench_plugins.training.recipe import from_options

        options: IdmOptions = ctx.options
        if not options.queue:
            return super().matching(ctx, images, real)
        networks = fresh_networks(ctx, options.network)
        how = from_options(Queue, options, precision=ctx.machine.precision, seed=ctx.seed("idm networks"))
        queue = NetworkQueue(networks, real, how)
        return QueueMatching(images, real, networks, self.settings(ctx), queue, options.ce_weight)
