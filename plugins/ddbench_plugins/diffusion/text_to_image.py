"""Sampling from Stable Diffusion, or a small model of its kind, under prompts: from noise, by ancestral steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.diffusion.ancestral import Denoiser
from ddbench_plugins.diffusion.denoising import LEAST, Denoising
from ddbench_plugins.diffusion.prompts import embed_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class PromptedDenoiser(Denoiser):
    """A U-Net under one prompt per image, guided away from no prompt.

    Variances are the posterior's. Of a prompt longer than the tokenizer's length its beginning is read, as Stable
    Diffusion does.
    """

    def __init__(self, pipeline: Any, prompts: Sequence[str], steps: int, guidance: float) -> None:
        from diffusers import DDPMScheduler

        self.network, self._guidance = pipeline.unet, guidance
        self._denoising = Denoising(pipeline.scheduler)
        self.scheduler = DDPMScheduler.from_config(
            pipeline.scheduler.config,
            variance_type="fixed_small",
            clip_sample=False,
            thresholding=False,
            prediction_type="epsilon",
        )
        # Where ᾱ is 0 the noise is all there is, and the clean latents that follow from it would not be finite.
        self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.clamp(min=LEAST)
        self.scheduler.set_timesteps(steps)
        length = pipeline.tokenizer.model_max_length
        with_prompt, without = embed_prompts(pipeline, prompts, "")
        self._with, self._without = (torch.stack([text[:length] for text in texts]) for texts in (with_prompt, without))

    def predict(self, latents: Tensor, time: Tensor, rows: slice) -> Tensor:
        """Return the guided noise float32 [n, C, h, w] in latents of the images ``rows``."""
        inputs, texts = latents, self._with[rows]
        if self._guidance != 1:
            inputs, texts = latents.repeat(2, 1, 1, 1), torch.cat([self._without[rows], texts])
        output = self.network(inputs.to(self.network.dtype), time, texts, return_dict=False)[0].float()
        if self._guidance != 1:
            free, conditional = output.chunk(2)
            output = free + self._guidance * (conditional - free)
        return self._denoising.noise(output, latents, time)
