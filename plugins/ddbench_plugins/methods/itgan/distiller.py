"""IT-GAN: latents of a generator, moved from those of training images to more informative ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PRECISIONS, PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.recipe import refuse_unused

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


class ItGanOptions(PixelOptions):
    """Options of IT-GAN; the defaults are those of the authors' command for CIFAR-10."""

    # The generator
    generator_file: str = Field(
        "",
        description="file with the weights of a trained generator instead of training one",
        json_schema_extra={"file": True},
    )
    gan_steps: int = Field(100000, ge=1, description="steps of the generator")
    gan_batch: int = Field(64, ge=1, description="images per step of either side")
    gan_critic_steps: int = Field(2, ge=1, description="steps of the discriminator per step of the generator")
    gan_lr: float = Field(2e-4, gt=0, description="learning rate of both (Adam)")
    gan_ema: float = Field(0.999, ge=0, lt=1, description="decay of the average of the generator's weights")
    gan_width: int = Field(64, ge=1, description="quarter of the channels of a block")
    z: int = Field(128, ge=1, description="numbers of a latent")
    recognised: float = Field(
        0.6, ge=0, le=1, description="share of random samples that a network must name right; else the run stops"
    )
    judge: str = Field(
        "convnet-3-bn",
        description="network, trained on real images, that names them",
        json_schema_extra={"names": "network"},
    )

    # What becomes of the latents
    latents: Literal["informative", "inverted", "random"] = Field(
        "informative", description="which are decoded: after both stages, after the inversion, or random ones"
    )
    inversion_steps: int = Field(5000, ge=1, description="steps of Adam by which latents give back training images")
    inversion_lr: float = Field(0.1, gt=0, description="learning rate of the inversion")
    inversion_batch: int = Field(100, ge=1, description="latents per class and step of the inversion")
    inversion_network: str = Field(
        "convnet-3",
        description="network, trained on real images, of the inversion",
        json_schema_extra={"names": "network"},
    )
    iterations: int = Field(10000, ge=1, description="steps after the inversion, each with new networks")
    lr_z: float = Field(0.001, gt=0, description="learning rate of the latents then (Adam)")
    batch: int = Field(1250, ge=1, description="latents per class and step; all where a class has fewer")
    batch_real: int = Field(1250, ge=1, description="real images per class and step beside the latents' own")
    r: float = Field(0.001, ge=0, le=1, description="weight of staying close to the own training image's features")
    network: str = Field(
        "convnet-3", description="network whose features are matched", json_schema_extra={"names": "network"}
    )
    networks: Literal["random", "trained"] = Field(
        "random",
        description="untrained ones, new for each class and step, or networks that were trained on real images",
    )
    pool: int = Field(5, ge=1, description="how many trained ones there are; with networks=trained")
    augment: Literal["dsa", "none"] = Field("dsa", description="one operation per class and step for all its images")


class ITGAN(ddbench.Distiller):
    """Informative latents of a frozen generator."""

    Options = ItGanOptions
    presets = "presets.toml"
    precisions = PRECISIONS

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse published weights where networks begin at random, how many trained ones there are, and an unfit file.

        Raises:
            ModelError: the file is not of a generator for this data set.
        """
        from ddbench_plugins.teachers.hubs import published

        options: ItGanOptions = ctx.options
        if options.generator_file:
            from ddbench_plugins.methods.itgan.networks import generator_of
            from ddbench_plugins.teachers.files import read_state

            data, state = ctx.dataset, read_state(Path(options.generator_file).expanduser())
            generator_of(state, classes=data.num_classes, size=data.image_size, channels=data.channels)
        if options.networks == "random":
            refuse_unused(ctx, ("pool",), "networks=random are new in every step")
        if options.networks == "random" and (weights := published(options.network)):
            raise ddbench.UsageError(
                f"{options.network} names published weights, and networks=random are not trained.",
                hint=f"Say {weights.network}, or -o method.networks=trained.",
            )

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the generator, the inversion, and the trained networks, as far as they are asked for."""
        from ddbench_plugins.methods.itgan.inversion import generator_of_run, inverted
        from ddbench_plugins.teachers.observers import teacher_of

        options: ItGanOptions = ctx.options
        if options.latents == "random":
            return [generator_of_run(ctx)]
        pool = range(options.pool if options.networks == "trained" and options.latents == "informative" else 0)
        trained = [teacher_of(ctx, options.network, repeat=number) for number in pool]
        return [generator_of_run(ctx), inverted.of(ctx), *trained]

    def work(self, ctx: ddbench.Context) -> float:
        """Latents × steps."""
        options: ItGanOptions = ctx.options
        return ctx.dataset.num_classes * (ctx.ipc or 1) * options.iterations

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return the images of ``ctx.ipc`` latents per class in the [0, 1] scale.

        Raises:
            ModelError: the generator is of another data set, or its images are not recognised.
        """
        import torch

        from ddbench_plugins.matching.draws import strategy_for
        from ddbench_plugins.matching.images import RealImages
        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.itgan.gan import load
        from ddbench_plugins.methods.itgan.inversion import begun, checked, inverted
        from ddbench_plugins.methods.itgan.matching import Informing, Settings
        from ddbench_plugins.training.seeding import make_generator

        options: ItGanOptions = ctx.options
        done = checked(ctx)
        generator, real = load(ctx, done), RealImages(ctx.dataset, device=ctx.machine.device)
        count = ctx.dataset.num_classes * ipc_of(ctx)
        numbers = {"numbers": count * generator.z, "bytes": 4 * count * generator.z}
        extra = {"generator": dict(done.info), "latents": numbers}
        if options.latents == "random":
            z = torch.randn((count, generator.z), generator=make_generator(ctx.seed("it-gan latents")))
            return begun(ctx, generator, real, z, options.lr_z).distilled(extra=extra)
        z = torch.load(inverted(ctx).dir / "latents.pt", weights_only=True)
        images = begun(ctx, generator, real, z, options.lr_z)
        if options.latents == "inverted":
            return images.distilled(extra=extra)
        work = Informing(
            images,
            Settings(options.batch, ctx.machine.precision, ctx.seed("it-gan steps")),
            self._networks(ctx),
            r=options.r,
            batch_real=options.batch_real,
            strategy=strategy_for(ctx.dataset) if options.augment == "dsa" else (),
        )
        return optimise(
            ctx, "matching latents", work, images, iterations=options.iterations, space="unit", extra=lambda: extra
        )

    @staticmethod
    def _networks(ctx: ddbench.Context) -> Callable[[int], nn.Module]:
        """Return what gives the network of each class and step."""
        import torch

        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.teachers.observers import get_teacher
        from ddbench_plugins.training.seeding import make_generator

        options: ItGanOptions = ctx.options
        if options.networks == "random":
            return fresh_networks(ctx, options.network)
        pool = [get_teacher(ctx, options.network, repeat=number, floor=False) for number in range(options.pool)]
        seed = ctx.seed("it-gan networks")

        def trained(number: int) -> nn.Module:
            chosen = torch.randint(len(pool), (), generator=make_generator(seed, number + 1))
            network: nn.Module = pool[int(chosen)].module()
            return network

        return trained
