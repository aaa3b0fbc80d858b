"""The first stage as a cached step: latents whose images are as close as they get to training images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

import ddbench
from ddbench_plugins.matching.images import RealImages
from ddbench_plugins.matching.optimise import run
from ddbench_plugins.methods.itgan.gan import GanRecipe, gan, load
from ddbench_plugins.methods.itgan.matching import Inversion, LatentImages, Settings
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.teachers.observers import get_teacher, teacher_of
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.methods.itgan.distiller import ItGanOptions
    from ddbench_plugins.methods.itgan.networks import Generator

#: Options of the generator, and of the inversion besides.
GENERATOR = (
    *("generator_file", "gan_steps", "gan_batch", "gan_critic_steps", "gan_lr", "gan_ema", "gan_width", "z"),
    *("recognised", "judge"),
)
INVERSION = ("inversion_steps", "inversion_lr", "inversion_batch", "inversion_network")


def generator_of_run(ctx: ddbench.Context) -> ddbench.StepCall:
    """Return the step of the generator, with the arguments that the options give it."""
    return gan.of(ctx, *_asked(ctx))


def _asked(ctx: ddbench.Context) -> tuple[GanRecipe, Path | None, str]:
    options: ItGanOptions = ctx.options
    recipe = GanRecipe(
        steps=options.gan_steps,
        batch=options.gan_batch,
        z=options.z,
        width=options.gan_width,
        critic_steps=options.gan_critic_steps,
        lr=options.gan_lr,
        ema=options.gan_ema,
    )
    return recipe, Path(options.generator_file).expanduser() if options.generator_file else None, options.judge


def checked(ctx: ddbench.Context) -> ddbench.Done:
    """Return the finished step of the generator.

    Raises:
        ModelError: too few of its images are recognised.
    """
    options: ItGanOptions = ctx.options
    done = gan(ctx, *_asked(ctx))
    if done.info["recognised"] < options.recognised:
        raise ddbench.ModelError(
            f"{options.judge} names the class of {done.info['recognised']:.0%} of the generator's images, fewer than"
            f" the {options.recognised:.0%} that method.recognised asks for.",
            hint="Train it longer (-o method.gan_steps=…), give the weights of another (-o method.generator_file=…), or"
            " accept it (-o method.recognised=0).",
        )
    return done


def begun(ctx: ddbench.Context, generator: Generator, real: RealImages, latents: Tensor, lr: float) -> LatentImages:
    """Return latents [K·ipc, z] with their partners, random training images of their class."""
    ipc, seed = ipc_of(ctx), ctx.seed("it-gan partners")
    ddbench.check_ipc(ctx.dataset, ipc)
    partners = []
    for label in range(real.classes):
        members = real.members(label)
        partners.append(members[torch.randperm(len(members), generator=make_generator(seed, label + 1))[:ipc]])
    return LatentImages(latents.to(ctx.machine.device), ipc, lr, generator, real, torch.cat(partners))


@ddbench.step(
    options=[*GENERATOR, *INVERSION],
    facts=["ipc"],
    seeds=["it-gan partners", "it-gan latents", "it-gan inversion"],
    needs=lambda ctx: [generator_of_run(ctx), teacher_of(ctx, ctx.options.inversion_network)],
    work=lambda ctx: ctx.dataset.num_classes * (ctx.ipc or 1) * ctx.options.inversion_steps,
)
def inverted(ctx: ddbench.Context, out: ddbench.Step) -> None:
    """Move random latents to where the generator gives back training images of their class."""
    options: ItGanOptions = ctx.options
    generator, real = load(ctx, checked(ctx)), RealImages(ctx.dataset, device=ctx.machine.device)
    network = get_teacher(ctx, options.inversion_network, floor=False).module()
    count = real.classes * ipc_of(ctx)
    z = torch.randn((count, generator.z), generator=make_generator(ctx.seed("it-gan latents")))
    images = begun(ctx, generator, real, z, options.inversion_lr)
    settings = Settings(options.inversion_batch, ctx.machine.precision, ctx.seed("it-gan inversion"))
    with ctx.progress("inverting", options.inversion_steps) as advance:
        loss = run(Inversion(images, settings, network), options.inversion_steps, Loop.of(ctx, advance, out))
    torch.save(images.images.detach().cpu(), out.dir / "latents.pt")
    out.info.update(loss=loss)
