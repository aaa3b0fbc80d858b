"""Plain samples of a class-conditional diffusion transformer: the baseline of minimax diffusion (Gu et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ddbench import DistilledSet, Distiller, Options, step
from ddbench_plugins.diffusion.backbone import backbone_identity
from ddbench_plugins.diffusion.dit.backbone import TRANSFORMER, Decoder, base_dit, dit_facts
from ddbench_plugins.diffusion.dit.options import DiTOptions
from ddbench_plugins.diffusion.hub import DECODER, DIT, is_hub, published, small_autoencoder
from ddbench_plugins.diffusion.method import judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddbench import Context, Step, StepCall, Weights
    from ddbench_plugins.diffusion.backbone import Backbone
    from ddbench_plugins.diffusion.dit.backbone import DiTBackbone

#: What the images depend on besides the transformer.
SAMPLED = ("steps", "guidance_scale", "cfg_channels", "decoder", "size")


def decoder_identity(self: DiT, ctx: Context, *classes: int) -> dict[str, Any]:
    """Return which weights a published decoder has."""
    source = ctx.options.decoder
    return {"decoder": Decoder(ctx, source, None, {}).identity()} if is_hub(source) else {}


def sampling_work(self: DiT, ctx: Context, start: int, stop: int) -> float:
    """Return how often the transformer is asked to sample some classes."""
    options: DiTOptions = ctx.options
    return (stop - start) * (ctx.ipc or 1) * options.steps * (1 + (options.guidance_scale > 1))


class DiT(Distiller):
    """Sample every class with guidance; nothing is trained but, without DiT-XL/2, the small model in its place."""

    Options: ClassVar[type[Options] | None] = DiTOptions
    presets = "presets.toml"

    def identity(self, ctx: Context) -> dict[str, Any]:
        """Return which weights the backbone and a published decoder have."""
        known = published(ctx.options.decoder, DECODER)
        decoder = {"decoder": known.revision} if known and known.here else {}
        return {**backbone_identity(ctx, self.files(ctx)), **decoder}

    def weights(self, ctx: Context) -> list[Weights]:
        """Return the published transformer, decoder, and autoencoder of a small model; none for folders."""
        options: DiTOptions = ctx.options
        transformer = published(options.backbone, self.files(ctx), options.revision)
        models = transformer, published(options.decoder, DECODER), small_autoencoder(options)
        return [model for model in models if model]

    def files(self, ctx: Context) -> tuple[str, ...]:
        """Return which files are read of a model on the hub."""
        return DIT

    def parts(self, ctx: Context) -> list[tuple[int, int]]:
        """Return the classes, from and to, that are sampled from one model."""
        return [(0, ctx.dataset.num_classes)]

    def sampled_from(self, ctx: Context, start: int, stop: int) -> StepCall:
        """Return the step of the model that some classes are sampled from."""
        return dit_facts.of(ctx)

    def model(self, ctx: Context, start: int, stop: int) -> DiTBackbone | Backbone:
        """Return the model that some classes are sampled from."""
        return base_dit(ctx)

    def needs(self, ctx: Context) -> list[StepCall]:
        """Return the images, and what is measured on them."""
        figures = [self.latent_figures.of(ctx, *part) for part in self.parts(ctx)]
        return [*figures, *([self.acceptance.of(ctx)] if ctx.options.checks_images else [])]

    def work(self, ctx: Context) -> float:
        """Writing the images: all other work is in steps."""
        return ctx.dataset.num_classes * (ctx.ipc or 1)

    @step(
        options=(*TRANSFORMER, *SAMPLED),
        ignore=["batch_size"],
        facts=["ipc"],
        seeds=["dit sampling"],
        needs=lambda self, ctx, start, stop: [dit_facts.of(ctx), self.sampled_from(ctx, start, stop)],
        identity=decoder_identity,
        work=sampling_work,
    )
    def sampled(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Sample the images of some classes."""
        from ddbench_plugins.diffusion.dit.images import sample

        sample(ctx, out, self.model(ctx, start, stop), self.labels(ctx, start, stop))

    @step(
        options=TRANSFORMER,
        ignore=["batch_size", "conditioning"],
        facts=["ipc"],
        needs=lambda self, ctx, start, stop: [self.sampled.of(ctx, start, stop)],
        version=3,
        work=lambda self, ctx, start, stop: (stop - start) * (ctx.ipc or 1),
    )
    def latent_figures(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Measure how well the sampled latents of some classes cover the real ones."""
        from ddbench_plugins.diffusion.dit.images import latent_figures

        labels, done = self.labels(ctx, start, stop), self.sampled(ctx, start, stop)
        out.info.update(latent_figures(ctx, self.model(ctx, start, stop), labels, done))

    @step(
        options=["acceptance_network"],
        facts=["ipc"],
        seeds=["vlcp nearest"],
        needs=lambda self, ctx: [
            *(self.sampled.of(ctx, *part) for part in self.parts(ctx)),
            judge(ctx),
        ],
        identity=lambda self, ctx: {"parts": self.parts(ctx)},
        ignore=["together"],
        work=lambda self, ctx: len(ctx.dataset.train) * (ctx.dataset.num_classes * (ctx.ipc or 1) + 1000),
    )
    def acceptance(self, ctx: Context, out: Step) -> None:
        """Measure what a reader needs before trusting images of a model trained on the data set."""
        from ddbench_plugins.diffusion.dit.images import acceptance

        out.info.update(acceptance(ctx, self.labels(ctx, 0, ctx.dataset.num_classes), self.images(ctx)))

    def labels(self, ctx: Context, start: int, stop: int) -> NDArray[np.int64]:
        """Return the labels of the images of some classes, class-major."""
        from ddbench_plugins.methods.selection import ipc_of

        return np.repeat(np.arange(start, stop), ipc_of(ctx))

    def images(self, ctx: Context) -> NDArray[np.uint8]:
        """Return the images of all classes, uint8 [n, S, S, C]."""
        from ddbench_plugins.diffusion.acceptance import as_data
        from ddbench_plugins.diffusion.synthesis import read_images

        images = np.concatenate([read_images(self.sampled(ctx, *part)) for part in self.parts(ctx)])
        return as_data(images, ctx.dataset.channels)

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` sampled images per class, and what was measured."""
        images, parts = self.images(ctx), self.parts(ctx)
        figures = [self.latent_figures(ctx, *part).info for part in parts]
        abouts = [self.model(ctx, *part).about for part in parts]
        extra: dict[str, Any] = {
            "backbone": abouts[0] if len(abouts) == 1 else abouts,
            "latents": {
                name: round(float(np.mean([value for measured in figures for value in measured[name]])), 5)
                for name in ("coverage", "similarity")
                if figures[0][name]
            },
        }
        if ctx.options.checks_images:
            extra["acceptance"] = dict(self.acceptance(ctx).info)
        return DistilledSet(images=images, labels=self.labels(ctx, 0, ctx.dataset.num_classes), extra=extra)
