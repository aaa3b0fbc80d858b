"""RTP: bases that all classes share, and coefficients, on whose images a long training ends well."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import whitening_steps


class RtpOptions(PixelOptions):
    """Options of RTP; the defaults are those of the released commands with bases."""

    network: str = Field(
        "convnet-3",
        description="network that is trained on the images",
        json_schema_extra={"names": "network", "fresh": True},
    )
    iterations: int = Field(500_000, ge=1, description="trainings, each a step of bases and coefficients")
    bases: int = Field(16, ge=0, description="images that all others are sums of; 0: images are learned themselves")
    scale: int = Field(2, ge=1, description="how far sums are enlarged")
    inner: int = Field(150, ge=1, description="steps of a training, which the gradient goes back through")
    lr_net: float = Field(0.01, gt=0, description="learning rate of a training (SGD)")
    momentum: float = Field(0.9, ge=0, lt=1, description="of a training")
    batch_syn: int = Field(32, ge=1, description="distilled images per class and step of a training")
    batch_real: int = Field(64, ge=1, description="training images per class")
    classes: int | None = Field(None, ge=1, description="classes per iteration; all when none")
    optimiser: Literal["sgd", "adam"] = Field("sgd", description="of bases and coefficients; SGD has a momentum of 0.5")
    lr_img: float = Field(0.1, gt=0, description="its learning rate")
    clip: float = Field(2.0, gt=0, description="largest norm of its gradient")
    reg: float = Field(
        0.0,
        ge=0,
        description="weight of the coefficients' squares in the loss; the released code's regulariser has no effect",
    )


class RTP(ddbench.Distiller):
    """Remember the past: addressable memories, by backpropagation through training."""

    Options = RtpOptions
    presets = "rtp.toml"

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse bases that leave no room, options of bases where there are none, and networks with batch norm."""
        if not ctx.options.bases:
            for name in sorted(ctx.resolved.explicit.keys() & {"scale", "reg"}):
                raise ddbench.UsageError(
                    f"bases=0 learns images themselves, and {name} is an option of bases and coefficients.",
                    hint=f"Leave method.{name} out.",
                )
        self._rows(ctx)
        if "network" in ctx.resolved.explicit:  # those of presets fit, and need no torch to be built
            from ddbench_plugins.methods.mtt.experts import flat_network

            flat_network(ctx, ctx.options.network)

    @staticmethod
    def _rows(ctx: ddbench.Context) -> int:
        from ddbench_plugins.methods.rtp.memory import rows_per_class

        data, options = ctx.dataset, ctx.options
        if not options.bases:
            return ipc_of(ctx)
        shape = (data.channels, data.image_size, data.image_size)
        return rows_per_class(ipc_of(ctx), data.num_classes, shape, options.bases, options.scale)

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

    def work(self, ctx: ddbench.Context) -> float:
        """Images that go through a network."""
        options: RtpOptions = ctx.options
        rows = min(options.batch_syn, self._rows(ctx))
        return options.iterations * ctx.dataset.num_classes * (options.batch_real + 6 * options.inner * rows)

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return bases and coefficients that are no more numbers than ``ctx.ipc`` images per class, or such images."""
        import torch

        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.matching.images import RealImages
        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.rtp.memory import Memory, Pixels
        from ddbench_plugins.methods.rtp.steps import Remembering, Settings
        from ddbench_plugins.training.recipe import from_options

        options: RtpOptions = ctx.options
        data = ctx.dataset
        shape = (data.channels, data.image_size, data.image_size)
        rows = self._rows(ctx)
        real = RealImages.of(ctx)

        def optimiser(learned: list[torch.Tensor]) -> torch.optim.Optimizer:
            if options.optimiser == "adam":
                return torch.optim.Adam(learned, options.lr_img)
            return torch.optim.SGD(learned, options.lr_img, momentum=0.5)

        start = (optimiser, ctx.seed("rtp init"), real.device)
        memory: Pixels = (
            Memory(shape, data.num_classes, rows, options.bases, options.scale, *start)
            if options.bases
            else Pixels.noise(shape, data.num_classes, rows, *start)
        )
        settings = from_options(Settings, options, seed=ctx.seed("rtp steps"))
        work = Remembering(memory, real, fresh_networks(ctx, options.network), settings)
        return optimise(ctx, "remembering", work, memory, iterations=options.iterations)
