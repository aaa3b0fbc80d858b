"""What methods share that turn prototypes of latents into images, and check these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ddbench import Distiller, step
from ddbench_plugins.diffusion.backbone import BACKBONE, backbone_identity, base_model, model_facts, side_of
from ddbench_plugins.diffusion.class_latents import batch_size
from ddbench_plugins.diffusion.counting import drawing
from ddbench_plugins.diffusion.hub import backbone_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ddbench import Context, Demand, Step, StepCall, Weights
    from ddbench_plugins.diffusion.backbone import Backbone
    from ddbench_plugins.diffusion.options import ImageToImageOptions
    from ddbench_plugins.diffusion.synthesis import Prototypes


def _count(ctx: Context, *, compared: bool) -> int:
    """Return how many images are drawn: all, or those that are compared."""
    ipc, classes = ctx.ipc or 1, ctx.dataset.num_classes
    return classes * (min(ipc, max(1, ctx.options.acceptance_images // classes)) if compared else ipc)


def _work(ctx: Context, *, compared: bool) -> float:
    """Images × steps taken, twice with guidance."""
    options: ImageToImageOptions = ctx.options
    return _count(ctx, compared=compared) * options.steps * options.strength * (1 + (options.guidance_scale > 1))


def _demand(ctx: Context, *, compared: bool) -> Demand | None:
    side = side_of(ctx)
    batch = batch_size(ctx.options, side)
    return drawing(ctx, side, batch, images=_count(ctx, compared=compared), passes=_work(ctx, compared=compared))


def _bytes(ctx: Context, *, compared: bool) -> int:
    size = ctx.options.size or ctx.dataset.image_size
    return _count(ctx, compared=compared) * size * size * 3


def judge(ctx: Context) -> StepCall:
    """Return the step of the network, trained on real images, that recognises the distilled ones."""
    from ddbench_plugins.teachers.observers import teacher_of

    return teacher_of(ctx, ctx.options.acceptance_network)


#: What the images depend on besides prototypes and model.
DRAWN = (*BACKBONE, "strength", "guidance_scale", "steps", "negative_prompt", "size")


#: Of the images that are compared.
_compared_images = step(
    options=lambda self, ctx: (*DRAWN, *self.draws, *self.chooses, "acceptance_images"),
    ignore=["batch_size"],
    seeds=["vlcp synthesis"],
    needs=lambda self, ctx: [self.prototypes(ctx), self.drawn_by(ctx)],
    work=lambda self, ctx: _work(ctx, compared=True),
    disk=lambda self, ctx: _bytes(ctx, compared=True),
    demand=lambda self, ctx: _demand(ctx, compared=True),
)


class ImageToImage(Distiller):
    """Prototypes are noised part of the way and denoised under their prompts.

    Attributes:
        draws: options of :func:`ddbench_plugins.diffusion.synthesis.draw` that the method has.
        chooses: options by which the method chooses the model that draws.
    """

    draws: ClassVar[Sequence[str]] = ()
    chooses: ClassVar[Sequence[str]] = ()

    def prototypes(self, ctx: Context) -> StepCall:
        """Return the step of the prototypes, for :func:`read_prototypes`."""
        raise NotImplementedError

    def drawn_by(self, ctx: Context) -> StepCall:
        """Return the step of the model that draws the images."""
        return model_facts.of(ctx)

    def model(self, ctx: Context) -> Backbone:
        """Return the model that draws the images."""
        return base_model(ctx)

    def identity(self, ctx: Context) -> dict[str, Any]:
        """Return which weights the backbone has."""
        return backbone_identity(ctx)

    def weights(self, ctx: Context) -> list[Weights]:
        """Return the published diffusion model."""
        return backbone_weights(ctx.options)

    def needs(self, ctx: Context) -> list[StepCall]:
        """Return the images, and what is measured on them."""
        return [self.synthesis.of(ctx), *([self.acceptance.of(ctx)] if ctx.options.checks_images else [])]

    def work(self, ctx: Context) -> float:
        """Writing the images: all other work is in steps."""
        return _count(ctx, compared=False)

    @step(
        options=lambda self, ctx: (*DRAWN, *self.draws, *self.chooses),
        ignore=["batch_size"],
        seeds=["vlcp synthesis"],
        needs=lambda self, ctx: [model_facts.of(ctx), self.prototypes(ctx), self.drawn_by(ctx)],
        work=lambda self, ctx: _work(ctx, compared=False),
        disk=lambda self, ctx: _bytes(ctx, compared=False),
        demand=lambda self, ctx: _demand(ctx, compared=False),
    )
    def synthesis(self, ctx: Context, out: Step) -> None:
        """Draw the images."""
        from ddbench_plugins.diffusion.synthesis import read_prototypes

        self._draw(ctx, out, read_prototypes(self.prototypes(ctx).done()))

    @_compared_images
    def synthesis_plain(self, ctx: Context, out: Step) -> None:
        """Draw some of the images again: noise goes by position, so that a subset needs images of its own."""
        self._draw(ctx, out, self._compared(ctx, swapped=False))

    @_compared_images
    def synthesis_swapped(self, ctx: Context, out: Step) -> None:
        """Draw them with the prompts of the next class."""
        self._draw(ctx, out, self._compared(ctx, swapped=True))

    @step(
        options=["acceptance_network", "acceptance_images"],
        facts=["ipc"],
        seeds=["vlcp nearest"],
        needs=lambda self, ctx: [
            self.synthesis.of(ctx),
            judge(ctx),
            *([] if self._all_compared(ctx) else [self.synthesis_plain.of(ctx)]),
            self.synthesis_swapped.of(ctx),
        ],
        # Comparing distilled images, and up to 1,000 others, with all training images is most of it.
        work=lambda self, ctx: len(ctx.dataset.train) * (_count(ctx, compared=False) + 1000),
    )
    def acceptance(self, ctx: Context, out: Step) -> None:
        """Measure what a reader needs before trusting images of a model trained on the data set."""
        from ddbench_plugins.diffusion import acceptance as checks
        from ddbench_plugins.diffusion.synthesis import read_images, read_prototypes

        channels = ctx.dataset.channels
        images = self.images(ctx)
        plain = images if self._all_compared(ctx) else checks.as_data(read_images(self.synthesis_plain(ctx)), channels)
        swapped = checks.as_data(read_images(self.synthesis_swapped(ctx)), channels)
        prototypes = read_prototypes(self.prototypes(ctx).done())
        out.info.update(checks.acceptance(ctx, prototypes, images, plain, swapped))

    def images(self, ctx: Context) -> NDArray[np.uint8]:
        """Return the images, uint8 [n, S, S, C]."""
        from ddbench_plugins.diffusion.acceptance import as_data
        from ddbench_plugins.diffusion.synthesis import read_images

        return as_data(read_images(self.synthesis(ctx)), ctx.dataset.channels)

    def _compared(self, ctx: Context, *, swapped: bool) -> Prototypes:
        from ddbench_plugins.diffusion.acceptance import compared
        from ddbench_plugins.diffusion.synthesis import read_prototypes

        prototypes = read_prototypes(self.prototypes(ctx).done())
        return compared(prototypes, ctx.dataset.num_classes, ctx.options.acceptance_images, swapped=swapped)

    def _all_compared(self, ctx: Context) -> bool:
        return _count(ctx, compared=True) == _count(ctx, compared=False)

    def _draw(self, ctx: Context, out: Step, prototypes: Prototypes) -> None:
        from ddbench_plugins.diffusion.synthesis import draw

        given = {name: getattr(ctx.options, name) for name in self.draws}
        draw(ctx, out, self.model(ctx), prototypes, ctx.options.size or ctx.dataset.image_size, **given)
