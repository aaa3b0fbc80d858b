"""The small latent diffusion model: Stable Diffusion's components at a size that two CPU cores can train.

It stands in for Stable Diffusion v1.5 where no pre-trained model fits, and is saved as an ordinary
``StableDiffusionPipeline`` folder, so that everything after its training is the same code for both.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class SmallPreset:
    """Sizes and training lengths of a small model; images are ``resolution`` × ``resolution`` RGB.

    The latent has 4 channels, as Stable Diffusion's, and is smaller by 2 for every VAE level after the first. What is
    None came later and changes nothing: ``latent_channels`` instead of 4; ``perceptual``, the weight of a teacher's
    features in the autoencoder's loss; ``side``, to which images are enlarged for a published autoencoder;
    ``snr_gamma``, which bounds the weights of the U-Net's loss (Hang et al., *Efficient Diffusion Training via Min-SNR
    Weighting Strategy*, ICCV 2023); and ``prediction``, what the U-Net predicts, in diffusers' words, instead of the
    noise ("epsilon"): "v_prediction" (Salimans & Ho, *Progressive Distillation for Fast Sampling of Diffusion Models*,
    ICLR 2022).
    """

    resolution: int
    vae_channels: tuple[int, ...]
    vae_steps: int
    unet_channels: tuple[int, ...]
    unet_steps: int
    flip: bool = True
    vae_layers: int = 1
    vae_batch: int = 32
    vae_rate: float = 1e-3
    kl_weight: float = 1e-6
    unet_attention: tuple[bool, ...] = (True, True)
    unet_layers: int = 1
    head_width: int = 32
    unet_batch: int = 64
    unet_rate: float = 1e-3
    ema_decay: float = 0.999
    text_width: int = 64
    text_layers: int = 2
    text_heads: int = 4
    merges: int = 4096
    groups: int = 16
    latent_channels: int | None = None
    perceptual: float | None = None
    side: int | None = None
    snr_gamma: float | None = None
    prediction: str | None = None

    def describe(self) -> dict[str, Any]:
        """The preset as plain numbers, for keys and records."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def latent_side(self) -> int:
        """Side of the latents."""
        return self.side // 8 if self.side else self.resolution // 2 ** (len(self.vae_channels) - 1)


PRESETS: dict[str, SmallPreset] = {
    "digits": SmallPreset(
        resolution=16,
        vae_channels=(16, 32, 32),
        vae_steps=1200,
        unet_channels=(48, 64),
        unet_attention=(False, True),
        unet_steps=1500,
        flip=False,
        groups=8,
    ),
    "cifar10": SmallPreset(
        resolution=32,
        vae_channels=(32, 64, 64),
        vae_steps=3000,
        unet_channels=(64, 128),
        unet_attention=(False, True),
        unet_steps=4500,
    ),
    "imagenette64": SmallPreset(
        resolution=64,
        vae_channels=(32, 64, 64),
        vae_steps=1200,
        vae_batch=16,
        unet_channels=(48, 96, 128),
        unet_attention=(False, True, True),
        unet_steps=1100,
    ),
}
#: Larger ones that are asked for by name, for images of any side.
LARGER: dict[str, SmallPreset] = {
    "long": SmallPreset(
        resolution=32,
        vae_channels=(32, 64, 64),
        vae_steps=3000,
        unet_channels=(64, 128),
        unet_attention=(False, True),
        unet_steps=4000,
        unet_batch=128,
        latent_channels=8,
        perceptual=0.2,
        snr_gamma=5.0,
    ),
    "medium": SmallPreset(
        resolution=32,
        vae_channels=(64, 128, 128),
        vae_steps=10_000,
        vae_batch=128,
        unet_channels=(192, 384),
        unet_steps=40_000,
        unet_layers=2,
        unet_batch=256,
        unet_rate=3e-4,
        ema_decay=0.9999,
        latent_channels=8,
        perceptual=0.2,
        snr_gamma=5.0,
    ),
}

CLASS_TEMPLATES = (
    "an image of a {name}",
    "a photo of a {name}",
    "a picture of the {name}",
    "the {name} in the image",
    "{name}",
)


def build_vae(preset: SmallPreset, seed: int) -> Any:
    """A randomly initialised ``AutoencoderKL`` of the preset."""
    from diffusers import AutoencoderKL

    levels = len(preset.vae_channels)
    with _seeded(seed):
        return AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=preset.latent_channels or 4,
            sample_size=preset.resolution,
            block_out_channels=preset.vae_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=preset.vae_layers,
            norm_num_groups=preset.groups,
            scaling_factor=1.0,
        )


def build_unet(preset: SmallPreset, seed: int, channels: int = 4) -> Any:
    """A randomly initialised ``UNet2DConditionModel``; the preset names the levels that attend to the text."""
    from diffusers import UNet2DConditionModel

    down = {True: "CrossAttnDownBlock2D", False: "DownBlock2D"}
    up = {True: "CrossAttnUpBlock2D", False: "UpBlock2D"}
    with _seeded(seed):
        return UNet2DConditionModel(
            sample_size=preset.latent_side,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=preset.unet_layers,
            block_out_channels=preset.unet_channels,
            down_block_types=tuple(down[attends] for attends in preset.unet_attention),
            up_block_types=tuple(up[attends] for attends in reversed(preset.unet_attention)),
            cross_attention_dim=preset.text_width,
            # diffusers reads this argument as the number of heads, for Stable Diffusion v1.5 as well
            attention_head_dim=[max(1, width // preset.head_width) for width in preset.unet_channels],
            norm_num_groups=preset.groups,
        )


def build_text_encoder(preset: SmallPreset, tokenizer: Any, seed: int) -> Any:
    """A randomly initialised ``CLIPTextModel`` for ``tokenizer``.

    Word vectors are drawn wide and stay fixed: words the class prompts never use must remain distinct
    for the fine-tuning on captions, where the text encoder is frozen.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=preset.text_width,
        intermediate_size=2 * preset.text_width,
        projection_dim=preset.text_width,
        num_hidden_layers=preset.text_layers,
        num_attention_heads=preset.text_heads,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_dropout=0.0,
    )
    with _seeded(seed):
        encoder = CLIPTextModel(config)
        words = encoder.get_input_embeddings().weight
        with torch.no_grad():
            words.normal_(std=0.5)
        words.requires_grad_(False)
    return encoder


def build_scheduler(prediction: str | None = None) -> Any:
    """Stable Diffusion v1.5's ``PNDMScheduler``, of a network that predicts the noise unless it is said."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction or "epsilon",
    )


def build_tokenizer(texts: Iterable[str], preset: SmallPreset, folder: Path) -> Any:
    """The preset's tokenizer for ``texts``, written to ``folder``."""
    from ddbench_plugins.diffusion.small.tokenizer import write_tokenizer

    return write_tokenizer(texts, folder, merges=preset.merges)


def assemble(vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, prediction: str | None = None) -> Any:
    """The components as a ``StableDiffusionPipeline`` without safety checker."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global CPU generator for a model's initialisation and give it back unchanged."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
