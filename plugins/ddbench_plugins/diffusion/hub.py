"""Published models on the hub: which of their files are read, and how large they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddbench import hub_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench import Weights
    from ddbench_plugins.diffusion.options import BackboneOptions

#: Files of a Stable Diffusion pipeline, the first of them a single one.
STABLE_DIFFUSION = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/*.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
#: Files of a diffusion transformer, the first of them a single one.
DIT = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "transformer/config.json",
    "transformer/*_model.*",
    "vae/config.json",
    "vae/*_model.*",
)
#: Files of an autoencoder.
DECODER = ("config.json", "diffusion_pytorch_model.*")
#: Bytes of those files where they are known. Stable Diffusion: 32-bit weights of U-Net, text encoder and autoencoder.
#: DiT: 675 million 32-bit weights, 27 more copies of the embedding of timestep and class (2.8 million each), and the
#: autoencoder's 84 million.
BYTES = {
    "benjamin-paine/stable-diffusion-v1-5": 4_270_000_000,
    "facebook/DiT-XL-2-256": 3_340_000_000,
    "stabilityai/sd-vae-ft-mse": 335_000_000,
}


def backbone_weights(options: BackboneOptions) -> list[Weights]:
    """Return the published pipeline that a method starts from; none for a small model or a folder."""
    known = [published(options.backbone, STABLE_DIFFUSION, options.revision), small_autoencoder(options)]
    return [weights for weights in known if weights]


def small_autoencoder(options: BackboneOptions) -> Weights | None:
    """Look for the published autoencoder of a small model on this machine; None for its own, a folder or a file."""
    return published(options.small_vae, DECODER) if options.backbone == "small" and options.small_vae else None


def published(source: str, files: Sequence[str], revision: str | None = None) -> Weights | None:
    """Look for a model of the hub on this machine; None for a small one or a folder."""
    return hub_weights(source, files, revision, BYTES.get(source)) if is_hub(source) else None


def is_hub(source: str) -> bool:
    """Whether a model's name is a hub id, neither ``small`` nor a folder."""
    return source.count("/") == 1 and not source.startswith(("/", ".", "~")) and not Path(source).exists()
