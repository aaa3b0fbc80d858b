"""Train the small diffusion transformer on a data set's latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddbench_plugins.diffusion.dit.noise import Noise
from ddbench_plugins.diffusion.dit.pipeline import null_label
from ddbench_plugins.diffusion.dit.small import DiTPreset, build_scheduler, build_transformer
from ddbench_plugins.diffusion.loop import WRITTEN_OUT, Ema, Optimisation, optimise
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.seeding import batch_indices, make_generator, stream_seed

if TYPE_CHECKING:
    from ddbench_plugins.diffusion.posteriors import Posteriors

UNCONDITIONAL = 0.1  # share of labels dropped for classifier-free guidance


def train_transformer(
    posteriors: Posteriors,
    labels: np.ndarray,
    classes: int,
    preset: DiTPreset,
    *,
    seed: int,
    loop: Loop | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The preset's transformer with its averaged weights, trained on all images, and what was measured.

    ``labels`` int64 [N] in 0…classes−1. The report has ``loss`` (mean of the last tenth) and ``parameters``.
    """
    channels, size = posteriors.mean.shape[2], posteriors.mean.shape[-1]
    loop, drawn_from = loop or Loop(), stream_seed(seed, "transformer")
    transformer = build_transformer(preset, size, classes, drawn_from, channels).to(loop.device).eval()
    parameters = list(transformer.parameters())
    ema = Ema(parameters, preset.ema_decay)
    noise, posteriors = Noise(build_scheduler().betas.to(loop.device)), posteriors.on(loop.device)
    targets = torch.tensor(np.asarray(labels), dtype=torch.long)

    def loss_at(step: int, part: int) -> Tensor:
        rows = batch_indices(len(targets), preset.batch, step, stream_seed(seed, "transformer"))
        stream = make_generator(seed, "transformer noise", step)
        drawn = draw(posteriors.draw(rows, stream), targets[rows], null_label(transformer), noise, stream)
        return noised_loss(transformer, noise, drawn)[0].mean()

    settings = Optimisation(
        steps=preset.steps,
        learning_rate=preset.rate,
        weight_decay=0.0,
        warmup=min(200, preset.steps // 10),
        schedule="cosine",
        plain_attention=size <= WRITTEN_OUT,
    )
    loss = optimise(parameters, loss_at, settings, loop, name="transformer", ema=ema)
    ema.copy_to(parameters)
    return transformer, {"loss": round(loss, 5), "parameters": sum(value.numel() for value in parameters)}


class Drawn(NamedTuple):
    """What one training step draws, on one device: clean latents, noise, timesteps, and labels, of which some are
    dropped."""

    clean: Tensor
    noise: Tensor
    times: Tensor
    labels: Tensor


def draw(clean: Tensor, labels: Tensor, null: int, noise: Noise, stream: torch.Generator) -> Drawn:
    """Draw noise, timesteps (uniform) and dropped labels for ``clean`` latents [n, 4, h, w], on their device."""
    added = torch.randn(clean.shape, generator=stream)
    times = torch.randint(noise.steps, (len(clean),), generator=stream)
    dropped = torch.rand(len(clean), generator=stream) < UNCONDITIONAL
    return Drawn(clean, *moved((added, times, torch.where(dropped, null, labels)), clean.device))


def noised_loss(transformer: Any, noise: Noise, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """Loss [n] of the transformer on a draw, and the clean latents [n, 4, h, w] that it predicts.

    The transformer is in evaluation mode: diffusers would otherwise drop other labels in every block.
    """
    clean, added, times, labels = drawn
    noisy = noise.noisy(clean, added, times)
    output = transformer(noisy, timestep=times, class_labels=labels, return_dict=False)[0].float()
    predicted = noise.clean(noisy, output.chunk(2, dim=1)[0], times)
    return noise.loss(output, clean, noisy, added, times), predicted
