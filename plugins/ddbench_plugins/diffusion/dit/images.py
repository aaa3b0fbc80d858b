"""Images sampled from a diffusion transformer, class by class, and what is measured on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import UsageError
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.class_latents import batch_size
from ddbench_plugins.diffusion.dit.backbone import Decoder
from ddbench_plugins.diffusion.synthesis import resized

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ddbench import Context, Done, Step
    from ddbench_plugins.diffusion.ancestral import Guide
    from ddbench_plugins.diffusion.backbone import Backbone
    from ddbench_plugins.diffusion.dit.backbone import DiTBackbone

#: Images between two places where an interrupted run resumes.
CHUNK = 64
#: Real images per class whose latents are compared with the sampled ones.
MOST_REAL = 500


def sample(
    ctx: Context,
    out: Step,
    model: DiTBackbone | Backbone,
    labels: NDArray[np.int64],
    guide: Callable[[range], Guide] | None = None,
) -> None:
    """Write images uint8 [n, size, size, 3] of the data set's ``labels`` [n], and their latents.

    Labels are sorted. Image i of a class has its own noise whatever IPC is: fewer images are the first ones of more.
    ``guide`` returns what is added to the steps of some of the images.
    """
    from ddbench_plugins.diffusion.ancestral import sample_latents
    from ddbench_plugins.training.seeding import make_generator

    ranks = np.arange(len(labels)) - np.searchsorted(labels, labels)  # class-major: places within their class
    seed, batch = ctx.seed("dit sampling"), batch_size(ctx.options, model.resolution())
    pipeline = loaded(ctx, model)
    (out.dir / "latents").mkdir(exist_ok=True)
    with ctx.progress("sampling", len(labels)) as advance:
        for start in range(0, len(labels), CHUNK):
            path = out.dir / f"{start:07d}.npy"
            if path.exists():
                continue
            rows = range(start, min(start + CHUNK, len(labels)))
            latents = sample_latents(
                model.denoiser(pipeline, labels[rows.start : rows.stop]),
                [make_generator(seed, int(labels[row]), int(ranks[row])) for row in rows],
                batch_size=batch,
                guide=guide and guide(rows),
                progress=lambda done, before=start: advance(before + done, len(labels)),
            )
            _keep(ctx, path, pipeline, latents, batch)


def loaded(ctx: Context, model: DiTBackbone | Backbone) -> Any:
    """Return the pipeline, with the autoencoder that decodes."""
    pipeline, decoder = model.load(model.compute_dtype), ctx.options.decoder
    if decoder:
        found = Decoder(ctx, decoder, None, {}).load(model.compute_dtype)
        if (theirs := _latents_of(found)) != (own := _latents_of(pipeline.vae)):
            raise UsageError(
                f"The decoder decodes latents of {theirs[1]} channels and 1/{theirs[0]} of an image's side; the model's"
                f" have {own[1]} and 1/{own[0]}.",
                hint=Decoder.INSTEAD,
            )
        pipeline.vae = found
    return pipeline


def _latents_of(vae: Any) -> tuple[int, int]:
    """Return by how much the side of an autoencoder's latents is smaller than the image's, and their channels."""
    return 1 << (len(vae.config.block_out_channels) - 1), int(vae.config.latent_channels)


def decode(
    ctx: Context, out: Step, pipeline: Any, latents: NDArray[np.float32], *, first: int = 0, lanczos: bool = False
) -> None:
    """Write latents [n, 4, h, w], the ``first`` of all and those after it, and their images, as :func:`sample` does.

    ``lanczos`` is the filter that resizes.
    """
    from ddbench_plugins.diffusion.pipeline import resolution

    batch = batch_size(ctx.options, resolution(pipeline, "transformer"))
    (out.dir / "latents").mkdir(exist_ok=True)
    for start in range(0, len(latents), CHUNK):
        part = latents[start : start + CHUNK]
        _keep(ctx, out.dir / f"{first + start:07d}.npy", pipeline, part, batch, lanczos)


def _keep(
    ctx: Context, path: Path, pipeline: Any, latents: NDArray[np.float32], batch: int, lanczos: bool = False
) -> None:
    """Write latents and, once they are there, their images."""
    from ddbench_plugins.diffusion.latents import decode_latents

    save_array(path.parent / "latents" / path.name, latents)
    images = decode_latents(pipeline, latents, batch_size=batch)
    save_array(path, resized(images, ctx.options.size or ctx.dataset.image_size, lanczos=lanczos))


def read_latents(done: Done) -> NDArray[np.float32]:
    """Return the latents [n, 4, h, w] of the images of a step."""
    return np.concatenate([np.load(path, allow_pickle=False) for path in sorted((done.dir / "latents").glob("*.npy"))])


def latent_figures(
    ctx: Context, model: DiTBackbone | Backbone, labels: NDArray[np.int64], done: Done
) -> Mapping[str, list[float]]:
    """Return, per class, how well the sampled latents cover the real ones, and how similar they are.

    ``coverage`` is the mean, over real images, of the largest cosine between an image's latent and the sampled latents
    of its class; ``similarity`` the mean cosine of two sampled latents of a class (empty at one image per class). Real
    latents are the posterior modes of :data:`MOST_REAL` training images per class at most, evenly spaced. Cosines are
    those of all latent numbers of an image, as in the minimax criterion.
    """
    from ddbench_plugins.diffusion.posteriors import encode

    data, size = ctx.dataset, model.resolution()
    batch = batch_size(ctx.options, size)
    vae = model.load(model.compute_dtype).vae
    latents = read_latents(done)
    figures: dict[str, list[float]] = {"coverage": [], "similarity": []}
    classes = np.unique(labels)
    with ctx.progress("coverage", len(classes)) as advance:
        for place, label in enumerate(classes):
            members = data.train.of_class(label)
            rows = members[np.linspace(0, len(members) - 1, min(MOST_REAL, len(members))).astype(int)].tolist()
            real = encode(vae, data.train.images, size, flip=False, batch_size=batch, rows=rows)
            covered, similar = cosines(real.mean[0].numpy(), latents[labels == label])
            figures["coverage"].append(covered)
            if similar is not None:
                figures["similarity"].append(similar)
            advance(place + 1)
    return figures


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


def acceptance(ctx: Context, labels: NDArray[np.int64], images: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the figures a reader needs before trusting images of a model trained on the data set.

    A network trained on the real training images recognises the sampled ones (``recognition``); ``nearest`` compares
    the distance to the nearest training image with that of real test images. Nothing is chosen by either.
    """
    from ddbench_plugins.diffusion.acceptance import nearest, recognition
    from ddbench_plugins.teachers.observers import get_teacher

    teacher = get_teacher(ctx, ctx.options.acceptance_network, floor=False)
    return {
        "teacher": teacher.describe(),
        "recognition": recognition(images, labels, teacher.predict, ctx.dataset.num_classes),
        "nearest": nearest(ctx, images),
    }
