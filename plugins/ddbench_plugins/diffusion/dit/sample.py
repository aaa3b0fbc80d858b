"""Sampling from a diffusion transformer: ancestral steps with learned variances and classifier-free guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.diffusion.ancestral import Denoiser
from ddbench_plugins.diffusion.dit.pipeline import null_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def respaced(total: int, count: int) -> list[int]:
    """``count`` of ``total`` timesteps, evenly spaced from the last to 0, as ADM's re-spacing chooses them."""
    if not 2 <= count <= total:
        raise ValueError(f"the number of sampling steps must be in 2…{total}, not {count}")
    return [round(i * (total - 1) / (count - 1)) for i in reversed(range(count))]


class LabelledDenoiser(Denoiser):
    """A transformer under one of its labels per image.

    ``channels`` is how many of the latent's channels guidance acts on; the released DiT code guides three of four.
    Variances are those of the conditional prediction.
    """

    def __init__(self, pipeline: Any, labels: Sequence[int], steps: int, guidance: float, channels: int = 4) -> None:
        from diffusers import DDPMScheduler

        self.network, self._guidance, self._channels = pipeline.transformer, guidance, channels
        self._labels = torch.as_tensor(list(labels), device=self.network.device)
        self.scheduler = DDPMScheduler.from_config(
            pipeline.scheduler.config, variance_type="learned_range", clip_sample=False, thresholding=False
        )
        self.scheduler.set_timesteps(timesteps=respaced(self.scheduler.config.num_train_timesteps, steps))

    def predict(self, latents: Tensor, time: Tensor, rows: slice) -> Tensor:
        """Return noise and variance float32 [n, 2C, h, w] of the images ``rows``."""
        return predict(self.network, latents, time, self._labels[rows], self._guidance, self._channels)


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
