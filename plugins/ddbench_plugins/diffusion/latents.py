"""Images to scaled latents and back; the training images of each class as latents, a cached step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddbench import derive_seed
from ddbench_plugins.diffusion.ahead import latents_effort
from ddbench_plugins.diffusion.arrays import write_rows
from ddbench_plugins.diffusion.clustering import WIDE
from ddbench_plugins.diffusion.reading import Reading
from ddbench_plugins.diffusion.tensors import resized, to_images, to_model
from ddbench_plugins.training.engine import silent
from ddbench_plugins.training.pixels import finite
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ddbench import Context, Done, Step, Team
    from ddbench_plugins.diffusion.backbone import Backbone
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


def encode_images(
    pipeline: Any, images: Sequence[np.ndarray] | np.ndarray, *, resolution: int, seed: int, **options: Any
) -> np.ndarray:
    """All latents of :func:`encoded_batches` at once."""
    return np.concatenate(list(encoded_batches(pipeline, images, resolution=resolution, seed=seed, **options)))


@torch.no_grad()
def encoded_batches(
    pipeline: Any,
    images: Sequence[np.ndarray] | np.ndarray,
    *,
    resolution: int,
    seed: int,
    sample: bool = True,
    batch_size: int = 64,
    resample: str = "bilinear",
    progress: Callable[..., None] = silent,
) -> Iterator[np.ndarray]:
    """Latents float32 [n, 4, h, w] of uint8 images [H, W, 1 or 3], multiplied by the VAE's scaling factor, by batches.

    Images are resized to ``resolution`` × ``resolution`` first. ``sample`` draws from the posterior as the released
    D4M and VLCP code does (there unseeded); image i's noise depends on (seed, i) only, whatever the batch size.
    Without ``sample`` the posterior's mode is taken.
    """
    vae = pipeline.vae
    factor = float(vae.config.scaling_factor)
    for start in range(0, len(images), batch_size):
        batch = to_model(resized(images[start : start + batch_size], resolution))
        posterior = vae.encode(batch.to(vae.device, vae.dtype)).latent_dist
        mean, std = posterior.mean.float().cpu(), posterior.std.float().cpu()
        if sample:
            rows = range(start, start + len(mean))
            shape = mean.shape[1:]
            mean = mean + std * torch.stack(
                [torch.randn(shape, generator=make_generator(seed, "latent", i)) for i in rows]
            )
        yield finite((mean * factor).numpy(), "latents of the autoencoder")
        progress(min(start + batch_size, len(images)), len(images), "encoding")


@torch.no_grad()
def decode_latents(
    pipeline: Any,
    latents: np.ndarray,
    *,
    batch_size: int = 64,
    progress: Callable[..., None] = silent,
) -> np.ndarray:
    """uint8 images [N, H, W, 3] of scaled latents [N, 4, h, w]."""
    vae = pipeline.vae
    factor = float(vae.config.scaling_factor)
    images: list[np.ndarray] = []
    for start in range(0, len(latents), batch_size):
        batch = torch.from_numpy(latents[start : start + batch_size]).to(vae.device, vae.dtype) / factor
        images.append(to_images(vae.decode(batch, return_dict=False)[0]))
        progress(min(start + batch_size, len(latents)), len(latents), "decoding")
    return np.concatenate(images)
