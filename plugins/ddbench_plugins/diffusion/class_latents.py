"""The training images of each class as latents, a cached step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench import derive_seed, step
from ddbench_plugins.diffusion.arrays import link, write_rows
from ddbench_plugins.diffusion.backbone import BACKBONE, base_model, model_facts, side_of
from ddbench_plugins.diffusion.clustering import WIDE
from ddbench_plugins.diffusion.counting import encoding
from ddbench_plugins.diffusion.reading import Reading
from ddbench_plugins.training.pixels import finite

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ddbench import Context, Done, Step
    from ddbench_plugins.diffusion.backbone import Backbone
    from ddbench_plugins.diffusion.options import BackboneOptions, DiffusionOptions


#: Images that a shard has at least: whole classes, as the noise of a latent follows from its place in its class.
SHARD = 512


def _bytes(ctx: Context) -> int | None:
    """Four channels at an eighth of the side in half precision, for Stable Diffusion."""
    if ctx.options.backbone == "small":
        return None
    return len(ctx.dataset.train) * 2 * 4 * (side_of(ctx) // 8) ** 2


def _shards(ctx: Context) -> list[tuple[int, int]]:
    """Return the classes of every shard, from the first to before the last."""
    shards, first, count = [], 0, 0
    for label, images in enumerate(ctx.dataset.train.counts(ctx.dataset.num_classes)):
        count += images
        if count >= SHARD or label == ctx.dataset.num_classes - 1:
            shards.append((first, label + 1))
            first, count = label + 1, 0
    return shards


def _encode(ctx: Context, out: Step, shard: tuple[int, int]) -> None:
    """Encode the classes of a shard, each by itself."""
    from ddbench_plugins.diffusion.latents import encoded_batches

    options: DiffusionOptions = ctx.options
    base, split = base_model(ctx), ctx.dataset.train
    resolution, sample = options.resolution or base.resolution(), options.latent == "sample"
    seed = ctx.seed("vlcp latents") if sample else 0
    left = [label for label in range(*shard) if not _file(out.dir, label).exists()]  # a kill may have left some
    counts = {label: len(split.of_class(label)) for label in left}
    count, total = 0, sum(counts.values())
    pipeline = ctx.loaded(lambda: base.load(base.compute_dtype))
    with base.encoding(), ctx.progress("encoding", total) as advance:
        for label, images in counts.items():
            latents = encoded_batches(
                pipeline,
                Reading(split.images, resolution, split.of_class(label)),
                resolution=resolution,
                seed=derive_seed(seed, "class", label),
                sample=sample,
                batch_size=batch_size(options, resolution),
                progress=lambda done, all, before=count: advance(before + done, total),
            )
            write_rows(_file(out.dir, label), images, (_stored(batch, base) for batch in latents))
            count += images


@step(
    name="latents",
    options=(*BACKBONE, "resolution", "latent"),
    ignore=["batch_size"],
    seeds=lambda ctx: ["vlcp latents"] if ctx.options.latent == "sample" else [],
    needs=[model_facts],
    work=lambda ctx: len(ctx.dataset.train),
    disk=_bytes,
    demand=lambda ctx: encoding(ctx, side_of(ctx), batch_size(ctx.options, side_of(ctx))),
    shards=_shards,
    shard=_encode,
)
def class_latents(ctx: Context, out: Step) -> None:
    """Write the latents of every class, ``<label>.npy`` [n, 4, h, w]; independent of IPC and captions.

    The autoencoder is not fine-tuned, so the base model's latents serve every fine-tuned one. All methods share the
    step, and its random role, which is named after the first of them. Latents of Stable Diffusion's size are stored in
    half precision, as the released code computes them: 42 MB for 1,300 images.
    """
    for shard in out.shards:
        for label in range(*shard.marker["inputs"]["shard"]):
            link(_file(shard.dir, label), _file(out.dir, label))


def latents_of(done: Done, label: int) -> NDArray[np.floating]:
    """Return one class's latents [n, 4, h, w] as they are stored, mapped from the file and not in memory yet."""
    stored: NDArray[np.floating] = np.load(_file(done.dir, label), mmap_mode="r", allow_pickle=False)
    return stored


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
