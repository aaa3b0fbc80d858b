"""Images sampled from a diffusion transformer, class by class, a cached step; and what is measured on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import ModelError, cached_first
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.dit.ahead import sampling_effort
from ddbench_plugins.diffusion.hub import published
from ddbench_plugins.diffusion.latents import batch_size
from ddbench_plugins.diffusion.synthesis import grey, read_images, resized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ddbench import Context, DistilledSet, Done, Step
    from ddbench_plugins.diffusion.dit.backbone import DiTBackbone
    from ddbench_plugins.diffusion.dit.options import DiTOptions

#: Images between two places where an interrupted run goes on.
CHUNK = 64
#: Real images per class whose latents are compared with the sampled ones.
MOST_REAL = 500


def distilled(ctx: Context, models: Sequence[tuple[DiTBackbone, range]], ipc: int) -> DistilledSet:
    """Return ``ipc`` images per class, each class sampled from the model it is given with, and what was measured."""
    from ddbench import DistilledSet

    options: DiTOptions = ctx.options
    labels = [np.repeat(np.asarray(classes), ipc) for model, classes in models]
    done = [sampled(ctx, model, each) for (model, _), each in zip(models, labels, strict=True)]
    images = np.concatenate([read_images(each) for each in done])
    if ctx.dataset.channels == 1:
        images = grey(images)
    figures = [latent_figures(ctx, model, *each) for (model, _), *each in zip(models, labels, done, strict=True)]
    abouts = [model.about for model, _ in models]
    extra: dict[str, Any] = {
        "backbone": abouts[0] if len(abouts) == 1 else abouts,
        "latents": {
            name: round(float(np.mean([value for each in figures for value in each[name]])), 5)
            for name in ("coverage", "similarity")
            if figures[0][name]
        },
    }
    if options.checks_images:
        extra["acceptance"] = acceptance(ctx, done, np.concatenate(labels), images)
    return DistilledSet(images=images, labels=np.concatenate(labels), extra=extra)


def sampled(ctx: Context, model: DiTBackbone, labels: NDArray[np.int64]) -> Done:
    """Return the step with images uint8 [n, size, size, 3] of the data set's ``labels`` [n], and their latents.

    Labels are sorted. Image i of a class has its own noise whatever IPC is: fewer images are the first ones of more.
    """
    options: DiTOptions = ctx.options
    own = np.asarray(model.labels())[labels].tolist()
    ranks = np.arange(len(labels)) - np.searchsorted(labels, labels)  # class-major: places within their class
    size = options.size or ctx.dataset.image_size
    batch = batch_size(options, model.resolution())
    inputs = {
        "version": 1,
        "model": model.digest(),
        "labels": own,
        "steps": options.steps,
        "guidance_scale": options.guidance_scale,
        "cfg_channels": options.cfg_channels,
        "decoder": options.decoder,
        "size": size,
        "seed": ctx.seed("dit sampling"),
        "dtype": model.compute_dtype,
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        from ddbench_plugins.diffusion.dit.sample import sample_latents
        from ddbench_plugins.diffusion.latents import decode_latents
        from ddbench_plugins.training.memory import keep_freed_memory
        from ddbench_plugins.training.seeding import make_generator

        keep_freed_memory()
        pipeline = model.load(model.compute_dtype)
        if options.decoder:
            pipeline.vae = _decoder(ctx, options.decoder, model.compute_dtype)
        (step.dir / "latents").mkdir(exist_ok=True)
        with ctx.progress("sampling", len(own)) as advance:
            for start in range(0, len(own), CHUNK):
                path = step.dir / f"{start:07d}.npy"
                if path.exists():
                    continue
                rows = range(start, min(start + CHUNK, len(own)))
                latents = sample_latents(
                    pipeline,
                    [own[row] for row in rows],
                    [make_generator(inputs["seed"], int(labels[row]), int(ranks[row])) for row in rows],
                    steps=options.steps,
                    guidance=options.guidance_scale,
                    channels=options.cfg_channels,
                    batch_size=batch,
                    progress=lambda done, before=start: advance(before + done, len(own)),
                )
                save_array(step.dir / "latents" / path.name, latents)
                save_array(path, resized(decode_latents(pipeline, latents, batch_size=batch), size))

    return ctx.step("sampled", inputs, build, effort=sampling_effort(ctx, options, len(own)))


def _decoder(ctx: Context, source: str, dtype: str) -> Any:
    from ddbench_plugins.diffusion.dit.pipeline import load_autoencoder
    from ddbench_plugins.diffusion.hub import DECODER
    from ddbench_plugins.diffusion.pipeline import BackboneUnavailableError

    known, machine = published(source, DECODER), ctx.machine
    try:
        return cached_first(
            lambda offline: load_autoencoder(source, machine.device, dtype, offline),
            here=known is not None and known.here,
            offline=machine.offline,
            failures=(BackboneUnavailableError,),
        )
    except BackboneUnavailableError as error:
        raise ModelError(
            str(error), hint="Or decode with the model's own autoencoder: -o method.decoder=''."
        ) from error


def latent_figures(
    ctx: Context, model: DiTBackbone, labels: NDArray[np.int64], done: Done
) -> Mapping[str, list[float]]:
    """Return, per class, how well the sampled latents cover the real ones, and how alike they are.

    ``coverage`` is the mean, over real images, of the largest cosine between an image's latent and the sampled latents
    of its class; ``similarity`` the mean cosine of two sampled latents of a class (empty at one image per class). Real
    latents are the posterior modes of :data:`MOST_REAL` training images per class at most, evenly spaced. Cosines are
    those of all latent numbers of an image, as in the minimax criterion.
    """
    data, size = ctx.dataset, model.resolution()
    batch = batch_size(ctx.options, size)
    inputs = {
        "version": 2,
        "dataset": data.fingerprint,
        "model": model.digest(),
        "sampled": done.key,
        "real": MOST_REAL,
        "dtype": model.compute_dtype,
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        from ddbench_plugins.diffusion.dit.posteriors import encode

        vae = model.load(model.compute_dtype).vae
        latents = np.concatenate(
            [np.load(path, allow_pickle=False) for path in sorted((done.dir / "latents").glob("*.npy"))]
        )
        step.info.update(coverage=[], similarity=[])
        classes = np.unique(labels)
        with ctx.progress("coverage", len(classes)) as advance:
            for place, label in enumerate(classes):
                members = data.train.of_class(label)
                rows = members[np.linspace(0, len(members) - 1, min(MOST_REAL, len(members))).astype(int)].tolist()
                real = encode(vae, data.train.images, size, flip=False, batch_size=batch, rows=rows)
                covered, alike = cosines(real.mean[0].numpy(), latents[labels == label])
                step.info["coverage"].append(covered)
                if alike is not None:
                    step.info["similarity"].append(alike)
                advance(place + 1)

    return ctx.step("latent-figures", inputs, build).info


def cosines(real: NDArray[np.float32], made: NDArray[np.float32]) -> tuple[float, float | None]:
    """Return coverage and similarity (None for a single latent) of one class's latents [n, …] and [m, …]."""
    real, made = _directions(real), _directions(made)
    covered = float((real @ made.T).max(1).mean())
    if len(made) < 2:
        return covered, None
    pairs = (made @ made.T)[np.triu_indices(len(made), 1)]
    return covered, float(pairs.mean())


def _directions(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = latents.reshape(len(latents), -1)
    directions: NDArray[np.float32] = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return directions


def acceptance(
    ctx: Context, done: Sequence[Done], labels: NDArray[np.int64], images: NDArray[np.uint8]
) -> dict[str, Any]:
    """Return the figures a reader needs before trusting images of a model trained on the data set.

    A network trained on the real training images recognises the sampled ones (``recognition``); ``nearest`` compares
    the distance to the nearest training image with that of real test images. Nothing is chosen by either.
    """
    from ddbench_plugins.teachers.observers import get_teacher

    options: DiTOptions = ctx.options
    data = ctx.dataset
    teacher = get_teacher(ctx, options.acceptance_network, floor=False)
    inputs = {
        "version": 1,
        "dataset": data.fingerprint,
        "sampled": [each.key for each in done],
        "teacher": teacher.digest,
    }

    def build(step: Step) -> None:
        from ddbench_plugins.diffusion.acceptance import nearest, recognition

        step.info.update(
            teacher=teacher.describe(),
            recognition=recognition(images, labels, teacher.predict, data.num_classes),
            nearest=nearest(ctx, images),
        )

    return dict(ctx.step("acceptance", inputs, build).info)
