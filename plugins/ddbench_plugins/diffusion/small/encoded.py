"""The training images as a published autoencoder encodes them, a cached step: every model trained on them reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench import step
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.small.preset import SMALL, autoencoder, small_preset

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench import Context, Step

#: Images in a file: where an interrupted run goes on.
CHUNK = 1000


def _views(ctx: Context) -> int:
    return 1 + small_preset(ctx, ctx.options).flip


@step(
    ignore=SMALL,
    identity=lambda ctx: {
        "resolution": small_preset(ctx, ctx.options).resolution,
        "side": small_preset(ctx, ctx.options).side,
        "views": _views(ctx),
        **autoencoder(ctx),
    },
    work=lambda ctx: len(ctx.dataset.train) * _views(ctx),
)
def encoded_images(ctx: Context, out: Step) -> None:
    """Write raw latents float16 [n, C, h, w] of plain and, where that keeps the label, mirrored images."""
    import torch

    from ddbench_plugins.diffusion.posteriors import checked
    from ddbench_plugins.diffusion.small.published import published_autoencoder, weights_digest
    from ddbench_plugins.diffusion.tensors import resized, to_model
    from ddbench_plugins.training.engine import Loop

    preset, images = small_preset(ctx, ctx.options), ctx.dataset.train.images
    vae = published_autoencoder(ctx, preset)
    out.info["autoencoder"] = weights_digest(vae)
    vae = vae.to(ctx.machine.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    total, loop = len(ctx.dataset.train), Loop.of(ctx)
    with ctx.progress("encoding", total) as advance:
        for start in range(0, total, CHUNK):
            rows, pixels = range(start, min(start + CHUNK, total)), None
            for view in range(_views(ctx)):
                path = out.dir / f"{view}-{start:08d}.npy"
                if not path.exists():
                    if pixels is None:
                        pixels = to_model(resized(images.batch(rows, preset.resolution), preset.resolution))
                    with loop.autocast():
                        parts = [checked(vae, part)[0] for part in (pixels.flip(3) if view else pixels).split(100)]
                    save_array(path, torch.cat(parts).numpy().astype("float16"))
            advance(rows.stop)


def encoded_posteriors(ctx: Context, vae: Any) -> Any:
    """Return the posteriors of all training images, normalised as ``vae`` does it; their deviation is 0.

    One that was not measured yet takes over mean and deviation of their channels.
    """
    import numpy as np
    import torch

    from ddbench_plugins.diffusion.posteriors import Posteriors

    def view(number: int) -> Tensor:
        files = sorted(encoded_images(ctx).dir.glob(f"{number}-*.npy"))
        return torch.from_numpy(np.concatenate([np.load(path, allow_pickle=False) for path in files])).float()

    mean = torch.stack([view(number) for number in range(_views(ctx))])
    mean = vae.normalise(mean) if vae.is_raw else vae.normal(mean)
    return Posteriors(mean, mean.new_zeros(1).expand(mean.shape), float(vae.config.scaling_factor))
