"""diffusers' image-to-image pipeline for latents of any number of channels."""

from __future__ import annotations

from typing import Any

from diffusers import StableDiffusionImg2ImgPipeline
from diffusers.utils.torch_utils import randn_tensor


class ImageToImagePipeline(StableDiffusionImg2ImgPipeline):
    """The stock pipeline takes tensors of four channels for latents, and encodes all others, whatever its model has."""

    def prepare_latents(
        self,
        image: Any,
        timestep: Any,
        batch_size: int,
        per_prompt: int,
        dtype: Any,
        device: Any,
        generator: Any = None,
    ) -> Any:
        """Noise the latents ``image`` [n, C, h, w] up to ``timestep``, as the stock pipeline does."""
        if image.shape[1] == 4 or image.shape[1] != self.vae.config.latent_channels:
            return super().prepare_latents(image, timestep, batch_size, per_prompt, dtype, device, generator)
        image = image.to(device=device, dtype=dtype)
        noise = randn_tensor(image.shape, generator=generator, device=device, dtype=dtype)
        return self.scheduler.add_noise(image, noise, timestep)
