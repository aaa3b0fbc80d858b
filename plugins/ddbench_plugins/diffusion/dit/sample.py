"""Sampling from a diffusion transformer: ancestral steps with learned variances and classifier-free guidance."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.diffusion.dit.pipeline import null_label
from ddbench_plugins.training.pixels import finite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from torch import Tensor

    #: What is added to the mean of a step, given its index (``steps`` − 1 … 0), the clean latents predicted in it and
    #: the deviation of its noise, [n, 4, h, w] each, and which images they are.
    Adjust = Callable[[int, Tensor, Tensor, slice], Tensor]


def respaced(total: int, count: int) -> list[int]:
    """``count`` of ``total`` timesteps, evenly spaced from the last to 0, as ADM's re-spacing chooses them."""
    if not 2 <= count <= total:
        raise ValueError(f"the number of sampling steps must be in 2…{total}, not {count}")
    return [round(i * (total - 1) / (count - 1)) for i in reversed(range(count))]


def sample_latents(
    pipeline: Any,
    labels: Sequence[int],
    streams: Sequence[torch.Generator],
    *,
    steps: int = 50,
    guidance: float = 4.0,
    channels: int = 4,
    batch_size: int = 64,
    adjust: Adjust | None = None,
    progress: Callable[..., None] | None = None,
) -> np.ndarray:
    """Scaled latents float32 [n, 4, h, w] of the transformer's ``labels``; image i draws all its noise from stream i.

    ``channels`` is how many of the latent's channels guidance acts on; the released DiT code guides three of four.
    Variances are those of the conditional prediction. ``progress`` hears how many images the work done amounts to.
    """
    latents = []
    for start in range(0, len(labels), batch_size):
        rows = slice(start, start + batch_size)
        count = len(labels[rows])

        def steps_done(done: int, before: int = start, count: int = count) -> None:
            if progress is not None:
                progress(before + count * done // steps)

        mine = None if adjust is None else partial(_of_rows, adjust, rows)
        latents.append(_batch(pipeline, labels[rows], streams[rows], steps, guidance, channels, mine, steps_done))
    return finite(torch.cat(latents).numpy(), "sampled latents")


def _of_rows(adjust: Adjust, rows: slice, index: int, clean: Tensor, deviation: Tensor) -> Tensor:
    return adjust(index, clean, deviation, rows)


@torch.no_grad()
def _batch(
    pipeline: Any,
    labels: Sequence[int],
    streams: Sequence[torch.Generator],
    steps: int,
    guidance: float,
    channels: int,
    adjust: Callable[[int, Tensor, Tensor], Tensor] | None,
    progress: Callable[..., None],
) -> Tensor:
    from diffusers import DDPMScheduler

    transformer = pipeline.transformer
    scheduler = DDPMScheduler.from_config(
        pipeline.scheduler.config, variance_type="learned_range", clip_sample=False, thresholding=False
    )
    scheduler.set_timesteps(timesteps=respaced(scheduler.config.num_train_timesteps, steps))
    size = transformer.config.sample_size
    shape = (transformer.config.in_channels, size, size)
    latents = torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(transformer.device)
    classes = torch.as_tensor(list(labels), device=transformer.device)
    for done, time in enumerate(scheduler.timesteps, start=1):
        output = predict(transformer, latents, time, classes, guidance, channels)
        made = scheduler.step(output, time, latents, generator=list(streams))
        latents = made.prev_sample
        if adjust is not None:
            variance = output[:, output.shape[1] // 2 :]
            deviation = (0.5 * scheduler._get_variance(time, predicted_variance=variance)).exp()
            latents = latents + adjust(steps - done, made.pred_original_sample, deviation)
        progress(done)
    return latents.cpu()


def predict(transformer: Any, latents: Tensor, time: Tensor, classes: Tensor, guidance: float, channels: int) -> Tensor:
    """Noise and variance float32 [n, 2C, h, w], the first ``channels`` of the noise guided away from "no class".

    How many is of interest for the usual four; of other latents all are guided.
    """
    channels = channels if latents.shape[1] == 4 else latents.shape[1]
    inputs, labels = latents, classes
    if guidance != 1:
        inputs, labels = latents.repeat(2, 1, 1, 1), torch.cat([classes, classes * 0 + null_label(transformer)])
    times = time.to(latents.device).expand(len(inputs))
    output = transformer(inputs.to(transformer.dtype), timestep=times, class_labels=labels, return_dict=False)[0]
    output = output.float()
    if guidance == 1:
        return output
    conditional, unconditional = output.chunk(2)
    noise, free = conditional[:, :channels], unconditional[:, :channels]
    return torch.cat([free + guidance * (noise - free), conditional[:, channels:]], dim=1)
