"""The training images of each class as latents of a diffusion model's autoencoder, a cached step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench import derive_seed
from ddbench_plugins.diffusion.ahead import latents_effort
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.span import WIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddbench import Context, Done, ImageSource, Step
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
        from ddbench_plugins.diffusion.encode import encode_images

        pipeline = base.load(base.compute_dtype)
        count = 0
        with ctx.progress("encoding", len(data.train)) as advance:
            for label in range(data.num_classes):
                rows = data.train.of_class(label)
                path = step.dir / f"{label:05d}.npy"
                if not path.exists():
                    latents = encode_images(
                        pipeline,
                        _Batches(data.train.images, rows, resolution),
                        resolution=resolution,
                        seed=derive_seed(inputs["seed"], "class", label),
                        sample=options.latent == "sample",
                        batch_size=batch_size(options, resolution),
                        progress=lambda done, total, info="", before=count: advance(before + done, len(data.train)),
                    )
                    half = base.compute_dtype != "fp32" or latents[0].size >= WIDE
                    save_array(path, latents.astype(np.float16) if half else latents)
                count += len(rows)
                advance(count)

    return ctx.step("latents", inputs, build, effort=latents_effort(ctx, options))


def latents_of(done: Done, label: int) -> NDArray[np.floating]:
    """Return one class's latents [n, 4, h, w] as they are stored, mapped from the file and not in memory yet."""
    stored: NDArray[np.floating] = np.load(done.dir / f"{label:05d}.npy", mmap_mode="r", allow_pickle=False)
    return stored


class _Batches:
    """Images at chosen positions, read by slices, so that a class need not fit into memory."""

    def __init__(self, images: ImageSource, rows: NDArray[np.int64], size: int) -> None:
        self.images, self.rows, self.size = images, rows, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, where: slice) -> NDArray[np.uint8]:
        return self.images.batch(self.rows[where].tolist(), self.size)


def batch_size(options: BackboneOptions, resolution: int) -> int:
    """Return how many images are encoded or generated at a time; no image depends on it."""
    return options.batch_size or (64 if resolution <= 64 else 8)
