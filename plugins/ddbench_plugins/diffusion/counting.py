"""What Stable Diffusion needs of a GPU: operations and bytes of its networks, counted on tensors without memory.

Networks are built from their configuration alone, with fake weights, and run once for one image. Attention is the fused
one, which keeps no matrix of weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench import Demand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ddbench import Context

#: Configurations of stable-diffusion-v1-5 (unet, vae and text_encoder/config.json), as far as sizes depend on them.
STABLE_DIFFUSION: Mapping[str, Mapping[str, Any]] = {
    "unet": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "vae": {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
    },
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
}
HUB = ("benjamin-paine/stable-diffusion-v1-5",)
TOKENS = 77
HALF, SINGLE = 2, 4
#: Layers that autocast computes in float32, so that what they keep for the backward pass is twice as large.
WIDE_LAYERS = ("GroupNorm", "LayerNorm")
#: Blocks whose activations gradient checkpointing computes again.
CHECKPOINTED = ("ResnetBlock2D", "Transformer2DModel")


@dataclass(frozen=True)
class Count:
    """What one image costs in a forward pass of a network.

    Attributes:
        parameters: numbers in its weights.
        flops: operations.
        kept: bytes of activations kept for a backward pass, in half precision as autocast has it.
        checkpointed: the same with gradient checkpointing, and the largest block that is computed again.
        held: bytes of all inputs of blocks: at most what skip connections hold.
        largest: bytes of the largest input and output of a layer together.
    """

    parameters: int
    flops: int
    kept: int = 0
    checkpointed: int = 0
    held: int = 0
    largest: int = 0


def configurations(source: str) -> Mapping[str, Mapping[str, Any]] | None:
    """Return the configurations of a model's parts: of a folder, or of Stable Diffusion v1.5; None for any other."""
    if source in HUB:
        return STABLE_DIFFUSION
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return None
    return {part: json.loads((folder / part / "config.json").read_text("utf-8")) for part in STABLE_DIFFUSION}


@dataclass(frozen=True)
class Counts:
    """What one image costs in every part of a model."""

    unet: Count
    encoder: Count
    decoder: Count
    text: Count

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(part.parameters for part in (self.unet, self.encoder, self.decoder, self.text))


@lru_cache(maxsize=8)
def counts(source: str, side: int) -> Counts | None:
    """Count a model at a side of images; None for one whose configuration is not known here."""
    known = configurations(source)
    if known is None:
        return None
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import CLIPTextConfig, CLIPTextModel

    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        unet = UNet2DConditionModel.from_config(dict(known["unet"]))
        vae = AutoencoderKL.from_config(dict(known["vae"]))
        text = CLIPTextModel(CLIPTextConfig(**_sizes(known["text_encoder"])))
        small = side // 2 ** (len(vae.config.block_out_channels) - 1)
        latent = torch.empty(1, vae.config.latent_channels, small, small)
        image = torch.empty(1, 3, side, side)
        words = torch.empty(1, TOKENS, unet.config.cross_attention_dim)
        ids = torch.zeros(1, min(TOKENS, text.config.max_position_embeddings), dtype=torch.long)
        time = torch.zeros(1, dtype=torch.long)
        return Counts(
            unet=_count(unet, lambda: unet(latent, time, encoder_hidden_states=words).sample),
            encoder=_count(vae.encoder, lambda: vae.encode(image).latent_dist.mean),
            decoder=_count(vae.decoder, lambda: vae.decode(latent).sample),
            text=_count(text, lambda: text(ids)[0]),
        )


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ("architectures", "model_type", "dtype")}


def _count(network: Any, run: Callable[[], Any]) -> Count:
    """Run a network once and count; weights are no activations."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    attention = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda query, key, value, *_, **__: sdpa_flop_count(
            query, key, value
        )
    }
    seen: dict[int, Any] = {}
    inputs, blocks, largest, wide = 0, [0], 0, 0

    def keep(tensor: Any) -> Any:
        if not isinstance(tensor, torch.nn.Parameter):
            seen[id(tensor)] = tensor
        return tensor

    def begins(module: Any, given: Any) -> None:
        nonlocal inputs
        if given and isinstance(given[0], torch.Tensor):
            inputs += given[0].nbytes
        module._kept_before = _bytes(seen)

    def ends(module: Any, given: Any, out: Any) -> None:
        blocks.append(_bytes(seen) - module._kept_before)

    def layer(module: Any, given: Any, out: Any) -> None:
        nonlocal largest, wide
        if isinstance(out, torch.Tensor) and given and isinstance(given[0], torch.Tensor):
            largest = max(largest, given[0].nbytes + out.nbytes)
            if type(module).__name__ in WIDE_LAYERS:
                wide += given[0].nbytes

    for module in network.modules():
        if type(module).__name__ in CHECKPOINTED:
            module.register_forward_pre_hook(begins)
            module.register_forward_hook(ends)
        elif not any(module.children()):
            module.register_forward_hook(layer)
    counter = FlopCounterMode(display=False, custom_mapping=attention)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return Count(  # run in float32, and told in half precision
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops=int(counter.get_total_flops()),
        kept=(_bytes(seen) + wide) // 2,
        checkpointed=(inputs + max(blocks)) // 2,
        held=inputs // 2,
        largest=largest // 2,
    )


def _bytes(tensors: Mapping[int, Any]) -> int:
    """Return the bytes of tensors, of which those that share memory count once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    return sum(storages.values())


def encoding(ctx: Context, side: int, batch: int) -> Demand | None:
    """Count the encoding of the training images at a side."""
    if (found := counts(ctx.options.backbone, side)) is None:
        return None
    return Demand(
        flops=found.encoder.flops * len(ctx.dataset.train),
        fixed=HALF * found.parameters,
        each=2 * found.encoder.largest,
        batch=batch,
        option="method.batch_size",
    )


def drawing(ctx: Context, side: int, batch: int, *, images: int, passes: float) -> Demand | None:
    """Count the images drawn from prototypes, by passes through the U-Net in all; they are decoded one by one."""
    options = ctx.options
    if (found := counts(options.backbone, side)) is None:
        return None
    guided = 1 + (options.guidance_scale > 1)
    return Demand(
        flops=found.unet.flops * passes + found.decoder.flops * images,
        fixed=HALF * found.parameters + 2 * found.decoder.largest,
        each=guided * (2 * found.unet.largest + found.unet.held),
        batch=batch,
        option="method.batch_size",
    )


def training(
    ctx: Context, side: int, *, images: int, batch: int, checkpointing: bool | None, cached: bool, views: int
) -> Demand | None:
    """Count the fine-tuning of the U-Net in mixed precision, on so many images in all epochs together.

    Args:
        ctx: of the method.
        side: of the images.
        images: that pass, an image once for every epoch.
        batch: images at a time.
        checkpointing: whether activations are computed again; None: for U-Nets of over 100 million weights.
        cached: whether the autoencoder sees every image of the training split once, not at every step.
        views: of an image then: plain and mirrored.
    """
    if (found := counts(ctx.options.backbone, side)) is None:
        return None
    unet = found.unet
    checkpointing = unet.parameters > 100_000_000 if checkpointing is None else checkpointing
    encoded = views * len(ctx.dataset.train) if cached else images
    return Demand(
        # A backward pass is twice a forward one; checkpointing does the forward one again.
        flops=images * ((3 + checkpointing) * unet.flops + found.text.flops) + encoded * found.encoder.flops,
        # Weights, gradients, both moments of AdamW and the averaged weights in float32; autocast's copy in half.
        fixed=(5 * SINGLE + HALF) * unet.parameters + SINGLE * (found.parameters - unet.parameters),
        each=max(unet.checkpointed if checkpointing else unet.kept, 2 * found.encoder.largest),
        batch=batch,
        option="method.finetune_batch_size",
    )
