"""Tiny diffusion pipelines with random weights, for tests of everything that takes one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import CLIPTokenizer


def tiny_pipeline(folder: Path, seed: int = 0, resolution: int = 16) -> Path:
    """Write a ``StableDiffusionPipeline`` with random weights (below 1 MB) to ``folder`` and return the folder.

    All components of Stable Diffusion v1.5 and its file layout, with latents of ``resolution`` / 2 and a tokenizer
    whose tokens are single bytes, at most 77 of them.
    """
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = _byte_tokenizer(folder / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(config)
        vae = AutoencoderKL(
            latent_channels=4,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            sample_size=resolution,
        )
        unet = UNet2DConditionModel(
            sample_size=resolution // 2,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    _write_rules(folder / "tokenizer")
    return folder


def tiny_dit(folder: Path, seed: int = 0, classes: int = 3, published: bool = False) -> Path:
    """Write a ``DiTPipeline`` with random weights (below 1 MB) for 16-pixel images to ``folder`` and return the folder.

    Its blocks hold equal embeddings of timestep and class, as in published ones. ``published``: with the class name and
    the .bin weights that facebook/DiT-XL-2-256 has.
    """
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            patch_size=2,
            num_embeds_ada_norm=classes,
        )
        first, second = (block.norm1.emb for block in transformer.transformer_blocks)
        second.load_state_dict(first.state_dict())
        vae = AutoencoderKL(
            latent_channels=4,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            sample_size=16,
        )
    scheduler = DDIMScheduler(clip_sample=False)
    DiTPipeline(transformer, vae, scheduler).save_pretrained(folder, safe_serialization=not published)
    if published:
        for path in (folder / "transformer" / "config.json", folder / "model_index.json"):
            text = path.read_text("utf-8").replace("DiTTransformer2DModel", "Transformer2DModel")
            path.write_text(text, encoding="utf-8")
    return folder


def _write_rules(folder: Path) -> None:
    """CLIP's vocabulary without merges: 256 bytes, 256 bytes at a word's end, start and end of text."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def _byte_tokenizer(folder: Path) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    _write_rules(folder)
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)
