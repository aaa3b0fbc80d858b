"""Train the small latent diffusion model on a data set: first the VAE, then text encoder and U-Net together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ddbench_plugins.diffusion.denoising import Denoising
from ddbench_plugins.diffusion.loop import WRITTEN_OUT, Ema, Optimisation, optimise
from ddbench_plugins.diffusion.pipeline import save_pipeline
from ddbench_plugins.diffusion.posteriors import Posteriors
from ddbench_plugins.diffusion.small.model import (
    CLASS_TEMPLATES,
    SmallPreset,
    assemble,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    build_vae,
)
from ddbench_plugins.diffusion.small.perceptual import feature_loss
from ddbench_plugins.diffusion.tensors import resized, rows_of, to_model
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.seeding import batch_indices, make_generator, stream_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MEASURED = 5000  # training images, evenly spaced, on which latents and reconstructions are measured
UNCONDITIONAL = 0.1  # share of prompts replaced by "" for classifier-free guidance


def train_small_pipeline(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    vocabulary_texts: Sequence[str],
    preset: SmallPreset,
    out_dir: Path,
    *,
    seed: int,
    loop: Loop | None = None,
    encoded: tuple[Any, Posteriors] | None = None,
    features: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> dict[str, float]:
    """Train the preset's model and save it to ``out_dir`` as a Stable Diffusion pipeline folder.

    ``images`` uint8 [N, H, W, 1 or 3] (resized to the preset's resolution), ``labels`` [N] indices into
    ``class_names``. The tokenizer's vocabulary comes from ``vocabulary_texts`` (the captions that a later fine-tuning
    will use, for example), the class names and the prompt templates. Training prompts name the class only. A published
    autoencoder is not trained, but given with the posteriors of all images (``encoded``); the preset's perceptual loss
    needs the ``features`` that it compares.

    Returns the measured numbers: ``reconstruction_mse`` (in units of [0, 1] pixels), ``latent_std``,
    ``vae_loss``, ``unet_loss``, ``vae_seconds``, ``unet_seconds`` (of this call), ``unet_parameters``; the first two on
    at most 5,000 training images. An autoencoder that was given has its reconstruction only.
    """
    loop = loop or Loop()
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    pixels = to_model(resized(images, preset.resolution))
    prompts = [template.format(name=name) for name in class_names for template in CLASS_TEMPLATES]
    tokenizer = build_tokenizer([*vocabulary_texts, *prompts], preset, out_dir / "tokenizer")
    if encoded:
        vae, posteriors = encoded[0].to(loop.device).eval().requires_grad_(False), encoded[1]
        vae_report = {"reconstruction_mse": reconstruction_mse(vae, pixels[:: _every(pixels)], device=loop.device)}
    else:
        vae, vae_report = train_vae(pixels, preset, loop.part("vae"), seed=seed, features=features)
        posteriors = Posteriors.of(vae, pixels.split(256), flip=preset.flip)
    text_encoder, unet, unet_report = train_unet(
        posteriors,
        labels,
        PromptSource(class_names, vocabulary_texts, tokenizer),
        preset,
        loop.part("unet"),
        seed=seed,
    )
    save_pipeline(assemble(vae, text_encoder, tokenizer, unet, preset.prediction), out_dir)
    return {**vae_report, **unet_report}


def train_vae(
    pixels: torch.Tensor,
    preset: SmallPreset,
    loop: Loop,
    *,
    seed: int,
    features: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[Any, dict[str, float]]:
    """The autoencoder for ``pixels`` [N, 3, H, W] in [-1, 1], with centred latents and its scaling factor set."""
    began, device = time.perf_counter(), loop.device
    vae = build_vae(preset, stream_seed(seed, "vae")).to(device, memory_format=torch.channels_last).train()
    images, side = pixels.to(device), preset.resolution // 2 ** (len(preset.vae_channels) - 1)

    def loss_at(step: int, part: int) -> torch.Tensor:
        rows = batch_indices(len(pixels), preset.vae_batch, step, stream_seed(seed, "vae"))
        stream = make_generator(seed, "vae noise", step)
        flips = torch.rand(len(rows), generator=stream) < 0.5 if preset.flip else torch.zeros(len(rows)).bool()
        noise = torch.randn((len(rows), preset.latent_channels or 4, side, side), generator=stream)
        rows, flips, noise = moved((rows, flips, noise), device)
        batch = images[rows]
        if preset.flip:
            batch = torch.where(flips[:, None, None, None], batch.flip(3), batch)
        batch = batch.contiguous(memory_format=torch.channels_last)
        mean, logvar = vae._encode(batch).float().chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
        decoded = vae.decode(mean + (0.5 * logvar).exp() * noise, return_dict=False)[0].float()
        divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum() / batch.numel()
        loss = F.l1_loss(decoded, batch) + F.mse_loss(decoded, batch) + preset.kl_weight * divergence
        if preset.perceptual and features:
            loss = loss + preset.perceptual * feature_loss(features, decoded, batch)
        return loss

    settings = Optimisation(
        steps=preset.vae_steps,
        learning_rate=preset.vae_rate,
        weight_decay=0.0,
        warmup=min(50, preset.vae_steps // 10),
        schedule="cosine",
    )
    loss = optimise(list(vae.parameters()), loss_at, settings, loop, name="VAE")
    vae.eval().requires_grad_(False)
    measured = pixels[:: _every(pixels)]
    centre_latents(vae, Posteriors.of(vae, measured.split(256), flip=False).mean[0])
    std = float(Posteriors.of(vae, measured.split(256), flip=False).mean.std())
    vae.register_to_config(scaling_factor=1.0 / std)
    report = {
        "reconstruction_mse": reconstruction_mse(vae, measured, device=device),
        "latent_std": std,
        "vae_loss": loss,
        "vae_seconds": time.perf_counter() - began,
    }
    return vae, report


def _every(pixels: torch.Tensor) -> int:
    return max(1, len(pixels) // MEASURED)


@torch.no_grad()
def centre_latents(vae: Any, means: torch.Tensor) -> None:
    """Shift the latent channels to mean 0 without changing any reconstruction.

    The noise schedule ends at (nearly) pure zero-mean noise, which a latent space with an offset does not. The shift
    is absorbed by the 1×1 convolutions on both sides of the latent.
    """
    offset = means.mean(dim=(0, 2, 3))
    vae.quant_conv.bias[: len(offset)] -= offset.to(vae.quant_conv.bias)
    weight = vae.post_quant_conv.weight[:, :, 0, 0]
    vae.post_quant_conv.bias += weight @ offset.to(weight)


@torch.no_grad()
def reconstruction_mse(vae: Any, pixels: torch.Tensor, *, device: str) -> float:
    """Mean squared error, in units of [0, 1] pixels, after encoding (posterior mean) and decoding."""
    total, count = 0.0, 0
    for start in range(0, len(pixels), 256):
        batch = pixels[start : start + 256].to(device)
        decoded = vae.decode(vae.encode(batch).latent_dist.mode()).sample.clamp(-1, 1)
        total += float(((decoded - batch) / 2).pow(2).sum())
        count += batch.numel()
    return total / count


class PromptSource:
    """Class-name prompts for one training step: several per class, shared by the images of that class.

    Half of them carry a tail of random words. The words say nothing about the image; they make the model find
    the class in texts as long as the captions of the later fine-tuning.
    """

    per_class = 3
    longest_tail = 40

    def __init__(self, class_names: Sequence[str], texts: Sequence[str], tokenizer: Any) -> None:
        names = {word for name in class_names for word in name.lower().split()}
        self.words = sorted({word for text in texts for word in text.lower().split()} - names)
        self.class_names, self.tokenizer = list(class_names), tokenizer

    def draw(self, stream: np.random.Generator) -> torch.Tensor:
        """Token ids [1 + classes · per_class, length]; row 0 is the empty prompt, then ``per_class`` rows per class."""
        prompts = [""]
        for name in self.class_names:
            for _ in range(self.per_class):
                prompt = CLASS_TEMPLATES[stream.integers(len(CLASS_TEMPLATES))].format(name=name)
                if self.words and stream.random() < 0.5:
                    tail = stream.choice(self.words, size=stream.integers(1, self.longest_tail + 1))
                    prompt = " ".join([prompt, *tail])
                prompts.append(prompt)
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return tokens.input_ids


def train_unet(
    posteriors: Posteriors,
    labels: np.ndarray,
    source: PromptSource,
    preset: SmallPreset,
    loop: Loop,
    *,
    seed: int,
) -> tuple[Any, Any, dict[str, float]]:
    """Text encoder and U-Net (EMA weights of both) trained jointly to denoise scaled posterior samples."""
    began, device = time.perf_counter(), loop.device
    encoder = build_text_encoder(preset, source.tokenizer, stream_seed(seed, "text encoder")).to(device).train()
    channels = posteriors.mean.shape[2]
    unet = build_unet(preset, stream_seed(seed, "unet"), channels).to(device, memory_format=torch.channels_last).train()
    parameters = [value for model in (encoder, unet) for value in model.parameters() if value.requires_grad]
    ema = Ema(parameters, preset.ema_decay)
    denoising = Denoising(build_scheduler(preset.prediction))
    targets, posteriors = torch.tensor(np.asarray(labels), dtype=torch.long), posteriors.on(device)

    def loss_at(step: int, part: int) -> torch.Tensor:
        rows = batch_indices(len(targets), preset.unet_batch, step, stream_seed(seed, "unet"))
        stream = make_generator(seed, "unet noise", step)
        latents = posteriors.draw(rows, stream)
        noise = torch.randn(latents.shape, generator=stream)
        times = torch.randint(denoising.times, (len(rows),), generator=stream)
        prompts = 1 + targets[rows] * source.per_class
        prompts = prompts + torch.randint(source.per_class, (len(rows),), generator=stream)
        prompts[torch.rand(len(rows), generator=stream) < UNCONDITIONAL] = 0
        tokens = source.draw(np.random.default_rng(stream_seed(seed, "prompts", step)))
        noise, times, tokens, prompts = moved((noise, times, tokens, prompts), device)
        hidden = rows_of(encoder(tokens)[0], prompts)
        noisy, target = denoising.task(latents, noise, times)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        predicted = unet(noisy, times, encoder_hidden_states=hidden, return_dict=False)[0]
        if preset.snr_gamma is None:
            return F.mse_loss(predicted.float(), target)
        weights = denoising.min_snr_weights(times, preset.snr_gamma)
        return (weights * (predicted.float() - target).square().flatten(1).mean(1)).mean()

    settings = Optimisation(
        steps=preset.unet_steps,
        learning_rate=preset.unet_rate,
        warmup=min(100, preset.unet_steps // 10),
        schedule="cosine",
        plain_attention=preset.latent_side <= WRITTEN_OUT,
    )
    loss = optimise(parameters, loss_at, settings, loop, name="U-Net", ema=ema)
    ema.copy_to(parameters)
    report = {
        "unet_loss": loss,
        "unet_seconds": time.perf_counter() - began,
        "unet_parameters": float(sum(value.numel() for value in unet.parameters())),
    }
    return encoder.eval(), unet.eval(), report
