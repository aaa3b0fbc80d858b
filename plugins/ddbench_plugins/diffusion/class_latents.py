"""The training images of each class as latents of a diffusion model's autoencoder, a cached step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench import derive_seed
from ddbench_plugins.diffusion.ahead import latents_effort
from ddbench_plugins.diffusion.arrays import write_rows
from ddbench_plugins.diffusion.reading import Reading
from ddbench_plugins.diffusion.span import WIDE
from ddbench_plugins.training.pixels import finite

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ddbench import Context, Done, Step, Team
    from ddbench_plugins.diffusion.base_model import Backbone
    from ddbench_plugins.diffusion.options import BackboneOptions, DiffusionOptions


def class_latents(ctx: Context, base: Backbone, resolution: int) -> Done:
    """Return the step with the latents of every class, ``<label>.npy`` [n, 4, h, w]; independent of IPC and captions.

    The autoencoder is not fine-tuned, so the base model's latents serve every fine-tuned one. All methods share the
    step, and its random role, which is named after the first of them. Latents of Stable Diffusion's size are stored in
    half precision, as the released code computes them: 42 MB for 1,300 images.
    """
    options: DiffusionOptions = ctx.options
    data = ctx.dataset
    inputs = {
        "version": 1,
        "model": base.digest(),
        "dataset": data.fingerprint,
        "resolution": resolution,
        "latent": options.latent,
        "seed": ctx.seed("vlcp latents") if options.latent == "sample" else 0,
        "dtype": base.compute_dtype,
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        # Listed once: each of several processes writes the files of other classes.
        left = [label for label in range(data.num_classes) if not _file(step.dir, label).exists()]
        ctx.together(_encode, ctx, step, base, resolution, inputs["seed"], left)

    return ctx.step("latents", inputs, build, effort=latents_effort(ctx, options))


def latents_of(done: Done, label: int) -> NDArray[np.floating]:
    """Return one class's latents [n, 4, h, w] as they are stored, mapped from the file and not in memory yet."""
    stored: NDArray[np.floating] = np.load(_file(done.dir, label), mmap_mode="r", allow_pickle=False)
    return stored


def _encode(ctx: Context, step: Step, base: Backbone, resolution: int, seed: int, left: list[int], team: Team) -> None:
    """Encode this process's share of the classes that are left."""
    from ddbench_plugins.diffusion.encode import encoded_batches

    options: DiffusionOptions = ctx.options
    split = ctx.dataset.train
    mine = team.share(left)
    counts = split.counts(ctx.dataset.num_classes)
    count = len(split) - sum(counts[label] for label in left)
    total = count + sum(counts[label] for label in mine)
    if not mine:
        return
    pipeline = base.load(base.compute_dtype)
    with ctx.progress("encoding", total) as advance:
        advance(count)
        for label in mine:
            latents = encoded_batches(
                pipeline,
                Reading(split.images, resolution, split.of_class(label)),
                resolution=resolution,
                seed=derive_seed(seed, "class", label),
                sample=options.latent == "sample",
                batch_size=batch_size(options, resolution),
                progress=lambda done, all, info="", before=count: advance(before + done, total),
            )
            write_rows(_file(step.dir, label), counts[label], (_stored(batch, base) for batch in latents))
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
