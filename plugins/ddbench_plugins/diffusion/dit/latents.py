"""The training images of each class as latents of a model's autoencoder, a cached step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench import step
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.backbone import BACKBONE, base_model, model_facts
from ddbench_plugins.diffusion.class_latents import batch_size
from ddbench_plugins.diffusion.dit.backbone import TRANSFORMER, base_dit, dit_facts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddbench import Context, Done, Step
    from ddbench_plugins.diffusion.source import DiffusionModel


@step(
    options=TRANSFORMER,
    ignore=["batch_size"],
    needs=[dit_facts],
    work=lambda ctx: len(ctx.dataset.train),
)
def dit_latents(ctx: Context, out: Step) -> None:
    """Write the scaled latents (posterior modes) of every class, ``<label>.npy`` [n, 4, h, w].

    Raises:
        UsageError: the transformer does not know a class; what reads the latents would fail hours later.
    """
    model = base_dit(ctx)
    model.labels()
    _write(ctx, out, model)


@step(
    options=BACKBONE,
    ignore=["batch_size"],
    needs=[model_facts],
    work=lambda ctx: len(ctx.dataset.train),
)
def text_latents(ctx: Context, out: Step) -> None:
    """Write those of a text-guided model's autoencoder."""
    _write(ctx, out, base_model(ctx))


def _write(ctx: Context, out: Step, model: DiffusionModel) -> None:
    from ddbench_plugins.diffusion.posteriors import encode

    data, side, vae, done = ctx.dataset, model.resolution(), model.load(model.compute_dtype).vae, 0
    with ctx.progress("encoding", len(data.train)) as advance:
        for label in range(data.num_classes):
            rows = data.train.of_class(label).tolist()

            def heard(count: int, _: int, before: int = done) -> None:
                advance(before + count, len(data.train))

            if not (path := out.dir / f"{label:05d}.npy").exists():
                encoded = encode(
                    vae,
                    data.train.images,
                    side,
                    flip=False,
                    batch_size=batch_size(ctx.options, side),
                    rows=rows,
                    progress=heard,
                )
                save_array(path, encoded.scaling * encoded.mean[0].numpy())
            done += len(rows)


def latents_of(done: Done, label: int) -> NDArray[np.float32]:
    """Return one class's scaled latents [n, 4, h, w]."""
    found: NDArray[np.float32] = np.load(done.dir / f"{label:05d}.npy", allow_pickle=False)
    return found
