"""The training images of each class as latents, a cached step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench import derive_seed, step
from ddbench_plugins.diffusion.arrays import write_rows
from ddbench_plugins.diffusion.backbone import BACKBONE, base_model, model_facts, side_of
from ddbench_plugins.diffusion.clustering import WIDE
from ddbench_plugins.diffusion.counting import encoding
from ddbench_plugins.diffusion.reading import Reading
from ddbench_plugins.training.pixels import finite

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ddbench import Context, Done, Step, Team
    from ddbench_plugins.diffusion.backbone import Backbone
    from ddbench_plugins.diffusion.options import BackboneOptions, DiffusionOptions


def _bytes(ctx: Context) -> int | None:
    """Four channels at an eighth of the side in half precision, for Stable Diffusion."""
    if ctx.options.backbone == "small":
        return None
    return len(ctx.dataset.train) * 2 * 4 * (side_of(ctx) // 8) ** 2


@step(
    name="latents",
    options=(*BACKBONE, "resolution", "latent"),
    ignore=["batch_size"],
    seeds=lambda ctx: ["vlcp latents"] if ctx.options.latent == "sample" else [],
    needs=[model_facts],
    work=lambda ctx: len(ctx.dataset.train),
    disk=_bytes,
    demand=lambda ctx: encoding(ctx, side_of(ctx), batch_size(ctx.options, side_of(ctx))),
)
def class_latents(ctx: Context, out: Step) -> None:
    """Write the latents of every class, ``<label>.npy`` [n, 4, h, w]; independent of IPC and captions.

    The autoencoder is not fine-tuned, so the base model's latents serve every fine-tuned one. All methods share the
    step, and its random role, which is named after the first of them. Latents of Stable Diffusion's size are stored in
    half precision, as the released code computes them: 42 MB for 1,300 images.
    """
    options: DiffusionOptions = ctx.options
    base = base_model(ctx)
    resolution = options.resolution or base.resolution()
    seed = ctx.seed("vlcp latents") if options.latent == "sample" else 0
    # Listed once: each of several processes writes the files of other classes.
    left = [label for label in range(ctx.dataset.num_classes) if not _file(out.dir, label).exists()]
    ctx.together(_encode, ctx, out, base, resolution, seed, left)


def latents_of(done: Done, label: int) -> NDArray[np.floating]:
    """Return one class's latents [n, 4, h, w] as they are stored, mapped from the file and not in memory yet."""
    stored: NDArray[np.floating] = np.load(_file(done.dir, label), mmap_mode="r", allow_pickle=False)
    return stored


def _encode(ctx: Context, out: Step, base: Backbone, resolution: int, seed: int, left: list[int], team: Team) -> None:
    """Encode this process's share of the classes that are left."""
    from ddbench_plugins.diffusion.latents import encoded_batches

    options: DiffusionOptions = ctx.options
    split = ctx.dataset.train
    mine = team.share(left)
    counts = split.counts(ctx.dataset.num_classes)
    count = len(split) - sum(counts[label] for label in left)
    total = count + sum(counts[label] for label in mine)
    if not mine:
        return
    pipeline = base.load(base.compute_dtype)
    with base.encoding(), ctx.progress("encoding", total) as advance:
        advance(count)
        for label in mine:
            latents = encoded_batches(
                pipeline,
                Reading(split.images, resolution, split.of_class(label)),
                resolution=resolution,
                seed=derive_seed(seed, "class", label),
                sample=options.latent == "sample",
                batch_size=batch_size(options, resolution),
                progress=lambda done, all, before=count: advance(before + done, total),
            )
            write_rows(_file(out.dir, label), counts[label], (_stored(batch, base) for batch in latents))
            count += counts[label]
            advance(count)


def _stored(latents: NDArray[np.float32], base: Backbone) -> NDArray[np.floating]:
    half = base.compute_dtype != "fp32" or latents[0].size >= WIDE
    if not half:
        return latents
    with np.errstate(over="ignore"):
        return finite(latents.astype(np.float16), "latents in half precision")


def _file(folder: Path, label: int) -> Path:
    return folder / f"{label:05d}.npy"


def batch_size(options: BackboneOptions, resolution: int) -> int:
    """Return how many images are encoded or generated at a time; no image depends on it."""
    return options.batch_size or (64 if resolution <= 64 else 8)
