"""Fine-tuning a Stable Diffusion U-Net on (image, caption) pairs, VAE and text encoder frozen, with EMA weights."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench_plugins.diffusion.denoising import Denoising
from ddbench_plugins.diffusion.loop import WRITTEN_OUT, Ema, Optimisation, optimise
from ddbench_plugins.diffusion.pipeline import resolution, save_pipeline
from ddbench_plugins.diffusion.posteriors import Encoder
from ddbench_plugins.diffusion.replicas import Replica, Team
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.seeding import batch_indices, make_generator, stream_seed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from ddbench_plugins.diffusion.reading import Reading


@dataclass(frozen=True)
class FinetuneSettings:
    """The settings of Zou et al. 2025, suppl. Table 1, with the defaults of diffusers' text-to-image training script.

    The released run scripts pass a batch of 32 with 4 accumulation steps; the paper's table says 8.
    ``cache_latents`` encodes every image (and its mirror image) once instead of at every step; the posterior is
    sampled at every step in both cases.
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
    images: Sequence[np.ndarray] | np.ndarray | Reading,
    captions: Sequence[str],
    out_dir: Path,
    settings: FinetuneSettings,
    *,
    seed: int,
    loop: Loop | None = None,
    team: Team | None = None,
) -> dict[str, Any]:
    """Fine-tune ``pipeline``'s U-Net (in place) and save the pipeline with EMA weights to ``out_dir``.

    ``images``: N uint8 arrays [H, W, 1 or 3] of any size, resized at the shorter side and centre-cropped; ``captions``:
    one text each, cut off at the tokenizer's length (77 tokens for Stable Diffusion). Both are read by batches.
    ``pipeline`` must be loaded in fp32; a ``loop`` in 'bf16' or 'fp16' is mixed precision. The U-Net goes on predicting
    what its scheduler says, noise or velocity. Returns the settings, steps and the final mean ``loss``.

    The processes of a ``team`` call this at once, divide every batch, and get the weights that one process would, up to
    rounding: all draw the batch's random numbers and use their part. The one that leads has the EMA weights and writes.
    """
    team, loop = team or Team(), loop or Loop()
    device = loop.device
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images but {len(captions)} captions")
    if pipeline.unet.dtype != torch.float32:
        raise ValueError("load the pipeline in fp32 to fine-tune it; 'precision' chooses the mixed precision")
    denoising = Denoising(pipeline.scheduler)
    unet = pipeline.unet.to(device).train().requires_grad_(True)
    pipeline.vae.to(device).eval().requires_grad_(False)
    pipeline.text_encoder.to(device).eval().requires_grad_(False)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    encoder = Encoder(pipeline.vae, images, settings.resolution)
    kept = out_dir / "posteriors"
    posteriors = encoder.keep(kept, settings.flip, team, loop.progress) if settings.cache_latents else encoder
    factor = float(pipeline.vae.config.scaling_factor)
    replica = Replica(unet, team, device)
    latent_side = settings.resolution * unet.config.sample_size // resolution(pipeline)

    def loss_at(step: int, part: int) -> torch.Tensor:
        turn = step * settings.accumulate + part
        rows = batch_indices(len(captions), settings.batch_size, turn, stream_seed(seed, "finetune")).tolist()
        own = team.share(range(len(rows)))
        mine = slice(own[0], own[-1] + 1)
        stream = make_generator(seed, "finetune noise", turn)
        flips = torch.rand(len(rows), generator=stream) < 0.5 if settings.flip else torch.zeros(len(rows)).bool()
        mean, std = moved(posteriors.of(rows[mine], flips[mine]), device)
        shape = (len(rows), *mean.shape[1:])
        spread, noise = (torch.randn(shape, generator=stream)[mine] for _ in range(2))
        times = torch.randint(denoising.times, (len(rows),), generator=stream)[mine]
        tokens = _tokens(pipeline.tokenizer, [captions[row] for row in rows[mine]])
        spread, noise, times, tokens = moved((spread, noise, times, tokens), device)
        clean = (mean + std * spread).mul(factor)
        with torch.no_grad():
            hidden = pipeline.text_encoder(tokens)[0]
        noisy, target = denoising.task(clean, noise, times)
        predicted = replica.model(noisy, times, encoder_hidden_states=hidden, return_dict=False)[0]
        loss = F.mse_loss(predicted.float(), target)
        # The mean over processes is then the mean over the batch, whose parts may differ in size by one.
        return loss * (len(own) * team.count / len(rows)) if team.count > 1 else loss

    parameters = list(unet.parameters())
    ema = Ema(parameters, settings.ema_decay) if team.leads else None
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
            plain_attention=latent_side <= WRITTEN_OUT,
        ),
        replace(loop, saves=team.leads),
        name="fine-tuning",
        ema=ema,
        replica=replica,
    )
    unet.eval().requires_grad_(False)
    if settings.gradient_checkpointing:
        unet.disable_gradient_checkpointing()
    if ema is not None:
        ema.copy_to(parameters)
        if settings.cache_latents:
            shutil.rmtree(kept)
        save_pipeline(pipeline, out_dir)
    return {**asdict(settings), "steps": steps, "loss": loss, "precision": loop.precision, "seed": seed}


def _tokens(tokenizer: Any, captions: Sequence[str]) -> torch.Tensor:
    length = tokenizer.model_max_length
    encoded = tokenizer(list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return encoded.input_ids
