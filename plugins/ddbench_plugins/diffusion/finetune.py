"""Fine-tuning a Stable Diffusion U-Net on (image, caption) pairs, VAE and text encoder frozen, with EMA weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench_plugins.diffusion.backbone import save_pipeline
from ddbench_plugins.diffusion.loop import Checkpoint, Ema, Optimisation, no_progress, optimise
from ddbench_plugins.diffusion.seeding import batch_indices, stream_seed, torch_stream
from ddbench_plugins.diffusion.tensors import centre_cropped, to_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True)
class FinetuneSettings:
    """The settings of Zou et al. 2025, suppl. Table 1, with the defaults of diffusers' text-to-image training script.

    The released run scripts pass a batch of 32 with 4 accumulation steps; the paper's table says 8.
    ``cache_latents`` encodes every image (and its mirror image) once instead of at every step; the posterior is
    sampled anew at every step in both cases.
    """

    resolution: int = 512
    epochs: int = 8
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.9999
    flip: bool = True
    gradient_checkpointing: bool = False
    cache_latents: bool = False

    def steps(self, images: int) -> int:
        """Optimiser steps of the whole training for that many images."""
        return self.epochs * math.ceil(math.ceil(images / self.batch_size) / self.accumulate)


def finetune(
    pipeline: Any,
    images: Sequence[np.ndarray] | np.ndarray,
    captions: Sequence[str],
    out_dir: Path,
    settings: FinetuneSettings,
    *,
    seed: int,
    device: str = "cpu",
    precision: str = "fp32",
    progress: Callable[..., None] = no_progress,
    checkpoint: Checkpoint | None = None,
    checkpoint_every: int = 200,
) -> dict[str, Any]:
    """Fine-tune ``pipeline``'s U-Net (in place) and save the pipeline with EMA weights to ``out_dir``.

    ``images``: N uint8 arrays [H, W, 1 or 3] of any size, resized at the shorter side and centre-cropped; ``captions``:
    one text each, cut off at the tokenizer's length (77 tokens for Stable Diffusion). ``pipeline`` must be loaded in
    fp32; ``precision`` 'bf16' or 'fp16' is mixed precision. Returns the settings, steps and the final mean ``loss``.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images but {len(captions)} captions")
    if pipeline.unet.dtype != torch.float32:
        raise ValueError("load the pipeline in fp32 to fine-tune it; 'precision' chooses the mixed precision")
    unet = pipeline.unet.to(device).train().requires_grad_(True)
    pipeline.vae.to(device).eval().requires_grad_(False)
    pipeline.text_encoder.to(device).eval().requires_grad_(False)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    latents = _LatentSource(pipeline, images, settings, device, progress)
    scheduler = pipeline.scheduler
    if scheduler.config.prediction_type != "epsilon":
        raise ValueError(f"the model predicts {scheduler.config.prediction_type!r}; noise prediction is needed")
    tokens = _tokens(pipeline.tokenizer, captions)

    def loss_at(step: int, part: int) -> torch.Tensor:
        turn = step * settings.accumulate + part
        rows = batch_indices(len(captions), settings.batch_size, turn, stream_seed(seed, "finetune"))
        stream = torch_stream(seed, "finetune noise", turn)
        clean = latents.draw(rows, stream)
        noise = torch.randn(clean.shape, generator=stream).to(device)
        times = torch.randint(scheduler.config.num_train_timesteps, (len(rows),), generator=stream).to(device)
        with torch.no_grad():
            hidden = pipeline.text_encoder(tokens[rows].to(device))[0]
        noisy = scheduler.add_noise(clean, noise, times)
        predicted = unet(noisy, times, encoder_hidden_states=hidden, return_dict=False)[0]
        return F.mse_loss(predicted.float(), noise)

    parameters = list(unet.parameters())
    ema = Ema(parameters, settings.ema_decay)
    steps = settings.steps(len(captions))
    loss = optimise(
        parameters,
        loss_at,
        Optimisation(
            steps=steps,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            accumulate=settings.accumulate,
            precision=precision,
        ),
        device=device,
        ema=ema,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=progress,
        label="fine-tuning",
    )
    ema.copy_to(parameters)
    unet.eval().requires_grad_(False)
    if settings.gradient_checkpointing:
        unet.disable_gradient_checkpointing()
    save_pipeline(pipeline, out_dir)
    return {**asdict(settings), "steps": steps, "loss": loss, "precision": precision, "seed": seed}


def _tokens(tokenizer: Any, captions: Sequence[str]) -> torch.Tensor:
    length = tokenizer.model_max_length
    found = tokenizer(list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return found.input_ids


class _LatentSource:
    """Scaled latents of training images, each draw a fresh posterior sample with a fresh flip."""

    def __init__(
        self, pipeline: Any, images: Any, settings: FinetuneSettings, device: str, progress: Callable[..., None]
    ) -> None:
        self._vae, self._images, self._settings, self._device = pipeline.vae, images, settings, device
        self._factor = float(pipeline.vae.config.scaling_factor)
        self._cache: tuple[torch.Tensor, torch.Tensor] | None = None
        if settings.cache_latents:
            self._cache = self._encode_all(progress)

    def draw(self, rows: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        """Latents [rows, 4, h, w] of the images ``rows``."""
        flips = torch.rand(len(rows), generator=stream) < 0.5 if self._settings.flip else torch.zeros(len(rows)).bool()
        if self._cache is not None:
            views = flips.long()
            mean, std = self._cache[0][views, rows], self._cache[1][views, rows]
        else:
            pixels = to_model(centre_cropped([self._images[int(row)] for row in rows], self._settings.resolution))
            mean, std = self._posterior(torch.where(flips[:, None, None, None], pixels.flip(3), pixels))
        noise = torch.randn(mean.shape, generator=stream)
        return (mean + std * noise).mul(self._factor).to(self._device)

    @torch.no_grad()
    def _posterior(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self._vae.encode(pixels.to(self._device, self._vae.dtype)).latent_dist
        return found.mean.float().cpu(), found.std.float().cpu()

    def _encode_all(self, progress: Callable[..., None]) -> tuple[torch.Tensor, torch.Tensor]:
        count, batch = len(self._images), 64
        views = []
        for flip in (False, True) if self._settings.flip else (False,):
            parts = []
            for start in range(0, count, batch):
                chosen = [self._images[row] for row in range(start, min(start + batch, count))]
                pixels = to_model(centre_cropped(chosen, self._settings.resolution))
                parts.append(self._posterior(pixels.flip(3) if flip else pixels))
                progress(min(start + batch, count), count, "encoding")
            views.append(parts)
        means = torch.stack([torch.cat([mean for mean, _ in parts]) for parts in views])
        stds = torch.stack([torch.cat([std for _, std in parts]) for parts in views])
        return means, stds
