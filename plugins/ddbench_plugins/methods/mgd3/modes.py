"""The modes of each class: k-means in the latent space of the model's autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import step
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.clustering import each_class
from ddbench_plugins.diffusion.dit.latents import dit_latents, latents_of, text_latents
from ddbench_plugins.methods.selection import ipc_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddbench import CachedStep, Context, Step
    from ddbench_plugins.methods.mgd3.options import MGD3Options


@step(
    options=["modes"],
    ignore=["conditioning"],
    facts=["ipc"],
    needs=lambda ctx: [encoded_by(ctx).of(ctx)],
    work=lambda ctx: len(ctx.dataset.train) * (ctx.ipc or 1),
)
def modes(ctx: Context, out: Step) -> None:
    """Write IPC modes of every class, ``modes.npy`` float32 [classes · IPC, 4, h, w], class-major.

    k-means has the random state 0, as in the released code, whatever the seed; what varies is the noise.
    """
    options: MGD3Options = ctx.options
    data, ipc, latents = ctx.dataset, ipc_of(ctx), encoded_by(ctx)(ctx)

    def work(label: int) -> NDArray[np.float32]:
        return modes_of(latents_of(latents, label), ipc, nearest=options.modes == "nearest")

    with ctx.progress("modes", data.num_classes) as advance:
        save_array(out.dir / "modes.npy", np.concatenate(each_class(work, data.num_classes, advance=advance)))


def encoded_by(ctx: Context) -> CachedStep[Any]:
    """Return the step that encodes the training images with the autoencoder of the model that is sampled."""
    return text_latents if ctx.options.conditioning == "text" else dit_latents


def modes_of(latents: NDArray[np.float32], count: int, *, nearest: bool = False) -> NDArray[np.float32]:
    """Return ``count`` centres of k-means of latents [n, 4, h, w], or the latents nearest to them."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances_argmin

    flat = latents.reshape(len(latents), -1)
    centres = KMeans(count, random_state=0, n_init="auto").fit(flat).cluster_centers_
    found = flat[pairwise_distances_argmin(centres, flat)] if nearest else centres
    shaped: NDArray[np.float32] = found.astype(np.float32).reshape(count, *latents.shape[1:])
    return shaped
