"""How the small diffusion model's U-Net is trained best: loss on held-out training images after equal processor time.

DDBENCH_DATA=… python benchmarks/small_diffusion.py --vae models/taef2_encoder.pth [--data cifar10] [--minutes 5]
    [--images 20000] [--held-out 2000] [--only "as it is,v-prediction"]

Each way of training differs from the first in one thing and gets as many steps as fit the time (its learning rate falls
to 0 by its own last step). All are judged by the same images, noise and times: the mean squared error of the noise, and
that with min-SNR weights. Finished ones are lines of ``--out``; the same command goes on after them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from ddbench_plugins.diffusion.denoising import Denoising
from ddbench_plugins.diffusion.posteriors import Posteriors
from ddbench_plugins.diffusion.small import training
from ddbench_plugins.diffusion.small.model import CLASS_TEMPLATES, LARGER, SmallPreset, build_scheduler, build_tokenizer
from ddbench_plugins.diffusion.small.tiny import from_states
from ddbench_plugins.diffusion.tensors import resized, to_model
from ddbench_plugins.teachers.files import read_state
from ddbench_plugins.training.engine import Loop

import ddbench

if TYPE_CHECKING:
    import numpy as np

SEED, GAMMA, TIMED = 0, 5.0, 12
VELOCITY = {"prediction": "v_prediction"}


@dataclass(frozen=True)
class Way:
    """One way of training: what it changes of the preset, and its precision."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    precision: str = "bf16"


WAYS = (
    Way("as it is"),
    Way("fp32", precision="fp32"),
    Way("without min-SNR weights", {"snr_gamma": None}),
    Way("v-prediction", VELOCITY),
    Way("v-prediction in fp32", VELOCITY, precision="fp32"),
    Way("v-prediction with half the rate", {**VELOCITY, "unet_rate": 5e-4}),
    Way("v-prediction with twice the rate", {**VELOCITY, "unet_rate": 2e-3}),
    Way("v-prediction with batch 64", {**VELOCITY, "unet_batch": 64}),
    Way("v-prediction with batch 256", {**VELOCITY, "unet_batch": 256}),
    Way("v-prediction with an EMA of 100 steps", {**VELOCITY, "ema_decay": 0.99}),
    Way("v-prediction with an EMA of 10,000 steps", {**VELOCITY, "ema_decay": 0.9999}),
)


@dataclass(frozen=True)
class Data:
    """Latents [1, N, C, h, w] and labels of the images that are trained on and of those held out."""

    latents: torch.Tensor
    labels: np.ndarray
    held_out: int
    class_names: tuple[str, ...]
    tokenizer: Any

    def train(self, way: Way, preset: SmallPreset, steps: int) -> tuple[Any, Any, float]:
        """Return text encoder, network and the processor seconds of ``steps`` steps."""
        preset = replace(preset, unet_steps=steps, **way.changes)
        mean = self.latents[:, : -self.held_out]
        posteriors = Posteriors(mean, mean.new_zeros(1).expand(mean.shape), 1.0)
        source = training.PromptSource(self.class_names, [], self.tokenizer)
        began = time.process_time()
        encoder, network, _ = training.train_unet(
            posteriors, self.labels[: -self.held_out], source, preset, Loop(precision=way.precision), seed=SEED
        )
        return encoder, network, time.process_time() - began

    @torch.no_grad()
    def loss(self, encoder: Any, network: Any, prediction: str | None) -> tuple[float, float]:
        """Return the held-out images' error of the noise, plain and with min-SNR weights, in 32-bit precision."""
        prompts = [CLASS_TEMPLATES[0].format(name=name) for name in self.class_names]
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(prompts, padding="max_length", max_length=length, return_tensors="pt").input_ids
        words, denoising = encoder(tokens)[0], Denoising(build_scheduler(prediction))
        latents, labels = self.latents[0, -self.held_out :], torch.as_tensor(self.labels[-self.held_out :])
        stream = torch.Generator().manual_seed(SEED)
        noise = torch.randn(latents.shape, generator=stream)
        times = torch.linspace(0, 999, len(latents)).long()[torch.randperm(len(latents), generator=stream)]
        errors = []
        for rows in torch.arange(len(latents)).split(250):
            noisy, _ = denoising.task(latents[rows], noise[rows], times[rows])
            output = network(noisy, times[rows], encoder_hidden_states=words[labels[rows]], return_dict=False)[0]
            wrong = denoising.noise(output, noisy, times[rows]) - noise[rows]
            errors.append(wrong.square().flatten(1).mean(1))
        plain, weights = torch.cat(errors), Denoising(build_scheduler()).min_snr_weights(times, GAMMA)
        return float(plain.mean()), float((plain * weights).mean())


def read(args: argparse.Namespace, preset: SmallPreset, folder: Path) -> Data:
    """Encode the data set's first training images; the last ones of them are held out."""
    data = ddbench.load_dataset(args.data)
    images, labels = data.arrays("train")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))[: args.images + args.held_out]
    decoder = args.vae.with_name(args.vae.name.replace("encoder", "decoder"))
    vae = from_states(read_state(args.vae), read_state(decoder), preset).eval().requires_grad_(False)
    pixels = to_model(resized(images[order.numpy()], preset.resolution))
    latents = vae.normalise(torch.cat([vae.encode(part).latent_dist.mode() for part in pixels.split(100)]))
    prompts = [template.format(name=name) for name in data.class_names for template in CLASS_TEMPLATES]
    tokenizer = build_tokenizer(prompts, preset, folder)
    return Data(latents[None], labels[order.numpy()], args.held_out, data.class_names, tokenizer)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True, help="the encoder's file of a published tiny autoencoder")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--minutes", type=float, default=5.0, help="of processor time for each way")
    parser.add_argument("--images", type=int, default=20_000, help="that are trained on")
    parser.add_argument("--held-out", type=int, default=2_000)
    parser.add_argument("--only", default="", help="names of ways, by commas")
    parser.add_argument("--out", type=Path, default=Path("small_diffusion.jsonl"))
    args = parser.parse_args()
    done = {line["way"] for line in map(json.loads, args.out.read_text().splitlines())} if args.out.exists() else set()
    names = args.only.split(",") if args.only else [way.name for way in WAYS]
    ways = [way for way in WAYS if way.name in names and way.name not in done]
    with TemporaryDirectory() as folder:
        size = ddbench.load_dataset(args.data).image_size
        preset = replace(LARGER["long"], resolution=size, side=size, latent_channels=None, perceptual=None, flip=False)
        data = read(args, preset, Path(folder)) if ways else None
        for way in ways:
            each = data.train(way, preset, TIMED)[2] / TIMED
            steps = round(60 * args.minutes / each)
            encoder, network, seconds = data.train(way, preset, steps)
            noise, weighted = data.loss(encoder, network, way.changes.get("prediction"))
            line = {"way": way.name, "steps": steps, "seconds": seconds, "noise": noise, "weighted": weighted}
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    print("| U-Net's training | steps | processor seconds | error of the noise | with min-SNR weights |")
    print("|---|---:|---:|---:|---:|")
    for line in map(json.loads, args.out.read_text().splitlines()):
        figures = f"{line['seconds']:.0f} | {line['noise']:.4f} | {line['weighted']:.4f}"
        print(f"| {line['way']} | {line['steps']:,} | {figures} |")


if __name__ == "__main__":
    main()
