"""A published tiny autoencoder (TAESD's family) as the autoencoder of a small model.

Bohan, *TAESD: Tiny AutoEncoder for Stable Diffusion*, github.com/madebyollin/taesd (MIT). It encodes to a mean without
deviation, at an eighth of the side, which suits images of 512 pixels; smaller images are enlarged before, and made
smaller after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

if TYPE_CHECKING:
    from ddbench_plugins.diffusion.small.model import SmallPreset

#: Arguments of ``AutoencoderTiny`` that its weights depend on.
ARCHITECTURE = (
    "encoder_block_out_channels",
    "decoder_block_out_channels",
    "act_fn",
    "upsample_fn",
    "latent_channels",
    "upsampling_scaling_factor",
    "num_encoder_blocks",
    "num_decoder_blocks",
)


class Pooled(nn.Module):
    """A block of ``AutoencoderTiny`` behind the normalised branch that the 32-channel variant (TAEF2) has."""

    def __init__(self, block: Any, width: int) -> None:
        super().__init__()
        self.conv, self.skip, self.fuse = block.conv, block.skip, block.fuse
        self.pool = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.GroupNorm(4, 4 * width),
            nn.ReLU(),
            nn.Conv2d(4 * width, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, width, h, w] to the same."""
        x = x + self.pool(x)
        return self.fuse(self.conv(x) + self.skip(x))


class TinyAutoencoder(ModelMixin, ConfigMixin):
    """``AutoencoderKL``'s interface for a tiny autoencoder, with latents of mean 0 and deviation 1 in every channel.

    Args:
        tiny: arguments of diffusers' ``AutoencoderTiny``.
        resolution: side of the images that are given and returned.
        side: side at which they are encoded: ``resolution`` times a power of two.
        latent_channels, block_out_channels, scaling_factor: what other code reads of an autoencoder's configuration.
        pooled: whether the blocks at the smallest size have a normalised branch.

    Attributes:
        mean, std: of the latents' channels [C], as :meth:`measure` finds them.
    """

    @register_to_config
    def __init__(
        self,
        tiny: dict[str, Any],
        resolution: int,
        side: int,
        latent_channels: int,
        block_out_channels: tuple[int, ...],
        pooled: bool = False,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = AutoencoderTiny(**tiny)
        if pooled:
            for layers, first in ((self.network.encoder.layers, False), (self.network.decoder.layers, True)):
                places = [place for place, layer in enumerate(layers) if hasattr(layer, "fuse")]
                for place in places[:3] if first else places[-3:]:
                    layers[place] = Pooled(layers[place], layers[place].conv[0].in_channels)
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("std", torch.ones(latent_channels))

    def encode(self, pixels: Tensor) -> AutoencoderKLOutput:
        """Encode [n, 3, resolution, resolution] in [-1, 1]: a posterior without deviation."""
        side = self.config.side
        if side != pixels.shape[-1]:
            pixels = F.interpolate(pixels, size=(side, side), mode="bicubic", align_corners=False).clamp(-1, 1)
        mean = self.normal(self.network.encoder(pixels))
        return AutoencoderKLOutput(DiagonalGaussianDistribution(mean.repeat(1, 2, 1, 1), deterministic=True))

    def decode(self, latents: Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        """Decode latents [n, C, h, w] to pixels [n, 3, resolution, resolution]."""
        pixels = self.network.decoder(latents * _channels(self.std) + _channels(self.mean))
        if self.config.side != self.config.resolution:
            pixels = F.interpolate(pixels, size=(self.config.resolution,) * 2, mode="area")
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)

    @property
    def is_raw(self) -> bool:
        """Whether its channels are as they were published."""
        return not self.mean.any() and bool((self.std == 1).all())

    def normal(self, latents: Tensor) -> Tensor:
        """Normalise raw latents [..., C, h, w]."""
        return (latents - _channels(self.mean)) / _channels(self.std)

    @torch.no_grad()
    def normalise(self, latents: Tensor) -> Tensor:
        """Take mean and deviation of the channels from latents [..., C, h, w] as encoded now, and normalise them."""
        others = [place for place in range(latents.ndim) if place != latents.ndim - 3]
        mean, std = latents.mean(others), latents.std(others)
        self.mean += self.std * mean.to(self.mean)
        self.std *= std.to(self.std)
        return (latents - _channels(mean)) / _channels(std)

    def enable_slicing(self) -> None:
        """Do nothing: it is small enough as it is."""

    enable_tiling = enable_slicing


def _channels(values: Tensor) -> Tensor:
    return values[:, None, None]


def from_diffusers(tiny: AutoencoderTiny, preset: SmallPreset) -> TinyAutoencoder:
    """Wrap an ``AutoencoderTiny`` for a preset's images."""
    config = {name: value for name, value in tiny.config.items() if name in ARCHITECTURE}
    model: TinyAutoencoder = TinyAutoencoder(**_arguments(config, preset))
    model.network.load_state_dict(tiny.state_dict())
    return model


def from_states(encoder: dict[str, Tensor], decoder: dict[str, Tensor], preset: SmallPreset) -> TinyAutoencoder:
    """Build the autoencoder of two released state dicts (``taesd_encoder``, ``taesd_decoder``, and so on).

    Its latent channels, and whether it has normalised branches, are read from the shapes. The released decoders begin
    with a clamp without weights, which diffusers' do not count.

    Raises:
        ValueError: names or shapes are not those of TAESD's family.
    """
    states = {"encoder": _numbered(encoder, 0), "decoder": _numbered(decoder, 1)}
    channels = len([value for value in states["encoder"].values() if value.ndim == 4][-1])
    pooled = any(".pool." in name for name in encoder)
    model: TinyAutoencoder = TinyAutoencoder(**_arguments({"latent_channels": channels}, preset), pooled=pooled)
    for part, state in states.items():
        try:
            getattr(model.network, part).layers.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"the {part}'s weights are not TAESD's: {' '.join(str(error).split())[:200]}") from error
    return model


def _arguments(tiny: dict[str, Any], preset: SmallPreset) -> dict[str, Any]:
    halvings = (preset.resolution // preset.latent_side).bit_length() - 1
    return {
        "tiny": tiny,
        "resolution": preset.resolution,
        "side": preset.side,
        "latent_channels": tiny["latent_channels"],
        "block_out_channels": (64,) * (halvings + 1),
    }


def _numbered(state: dict[str, Tensor], first: int) -> dict[str, Tensor]:
    """Count layers from 0 where a state dict counts them from ``first``."""
    parted = [(name.partition("."), value) for name, value in state.items()]
    if not any(value.ndim == 4 for value in state.values()) or not all(name[0].isdecimal() for name, _ in parted):
        raise ValueError(f"{next(iter(state), 'no weight')!r} is no weight of TAESD's")
    return {f"{int(place) - first}.{rest}": value for (place, _, rest), value in parted}
