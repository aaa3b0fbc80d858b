"""The small diffusion model of a data set: shipped, or trained in a cached step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench import derive_seed, step
from ddbench_plugins.diffusion.captions import caption_training_images, captions
from ddbench_plugins.diffusion.small.encoded import encoded_images, encoded_posteriors
from ddbench_plugins.diffusion.small.preset import SMALL, autoencoder, small_preset

if TYPE_CHECKING:
    from pathlib import Path

    from ddbench import Context, Step, StepCall
    from ddbench_plugins.diffusion.small.model import SmallPreset

#: Data sets whose small model ships with ddbench, by fingerprint.
SHIPPED = {"8209629dc6fd0f17c74839bf48db95f7b9c0862061cb0dc255b8b94a78814b34": "digits"}


def shipped_model(ctx: Context, preset: SmallPreset) -> Path | None:
    """Return the folder of the small model that ships with ddbench, if it was trained on this data with this preset."""
    from ddbench_plugins.diffusion.small.bundled import bundled_model
    from ddbench_plugins.diffusion.small.model import PRESETS

    name = SHIPPED.get(ctx.dataset.fingerprint)
    return bundled_model(name) if name and preset == PRESETS[name] else None


def vocabulary(ctx: Context) -> Context:
    """Return the context of the captions whose words the small model knows: those measured, whichever the run uses.

    Options of kind captioner are for the one that the method uses.
    """
    return ctx.without_options_of("captioner")


def _teachers(ctx: Context) -> list[StepCall]:
    """Return the step of the network whose features the autoencoder is trained on, where it is."""
    if not small_preset(ctx, ctx.options).perceptual:
        return []
    from ddbench_plugins.teachers.observers import teacher_of

    return [teacher_of(ctx, ctx.options.acceptance_network)]


@step(
    options=lambda ctx: (*SMALL, *(["acceptance_network"] if small_preset(ctx, ctx.options).perceptual else [])),
    needs=lambda ctx: [
        captions.of(vocabulary(ctx), "attributes"),
        *([encoded_images.of(ctx)] if ctx.options.small_vae else []),
        *_teachers(ctx),
    ],
    identity=lambda ctx: {"preset": small_preset(ctx, ctx.options).describe(), **autoencoder(ctx)},
    work=lambda ctx: small_preset(ctx, ctx.options).vae_steps + small_preset(ctx, ctx.options).unet_steps,
    model="diffusion model",
)
def small_diffusion(ctx: Context, out: Step) -> None:
    """Train the small model on the data set; its prompts name the class only, once for all seeds and IPCs."""
    from ddbench_plugins.diffusion.small.perceptual import teacher_features
    from ddbench_plugins.diffusion.small.published import published_autoencoder
    from ddbench_plugins.diffusion.small.training import train_small_pipeline
    from ddbench_plugins.teachers.observers import get_teacher
    from ddbench_plugins.training.engine import Loop

    data, preset = ctx.dataset, small_preset(ctx, ctx.options)
    encoded = features = None
    if ctx.options.small_vae:
        vae = published_autoencoder(ctx, preset)
        encoded = vae, encoded_posteriors(ctx, vae)
        out.info["autoencoder"] = encoded_images(ctx).info["autoencoder"]
    elif preset.perceptual:
        features = teacher_features(get_teacher(ctx, ctx.options.acceptance_network, floor=False))
    words = caption_training_images(vocabulary(ctx), "attributes").texts
    images = data.train.images.batch(range(len(data.train)), preset.resolution)
    with ctx.progress("small diffusion model") as advance:
        report = train_small_pipeline(
            images,
            data.train.labels,
            data.class_names,
            words,
            preset,
            out.dir,
            seed=derive_seed(0, "small diffusion model"),
            loop=Loop.of(ctx, advance, out),
            encoded=encoded,
            features=features,
        )
    out.info.update(report)
