"""A published tiny autoencoder in a small model: released files, diffusers' layout, normalised latents, whole runs."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ddbench_plugins.diffusion import small
from ddbench_plugins.diffusion.dit.options import DiTOptions
from ddbench_plugins.diffusion.small.model import PRESETS
from ddbench_plugins.diffusion.small.published import PublishedAutoencoder
from ddbench_plugins.diffusion.small.tiny import TinyAutoencoder, from_states
from ddbench_plugins.methods.dit.distiller import DiT
from ddbench_plugins.methods.mgd3.options import MGD3Options
from ddbench_plugins.methods.vlcp.distiller import VLCP
from ddbench_plugins.methods.vlcp.options import VLCPOptions
from diffusers import AutoencoderTiny

import ddbench
from ddbench.plugin.options import Resolved
from ddbench.runtime.store import Store
from ddbench.testing.toy import toy_dataset

DIGITS = replace(PRESETS["digits"], side=16)


def released(folder, channels=8, pooled=True):
    """Write encoder and decoder of random weights as they are released; return the encoder's file."""
    arguments = {"tiny": {"latent_channels": channels}, "resolution": 16, "side": 16, "latent_channels": channels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TinyAutoencoder(**arguments, block_out_channels=(64,) * 4, pooled=pooled)
    network = model.network
    torch.save(network.encoder.layers.state_dict(), folder / "taex_encoder.pth")
    shifted = {_later(name): value for name, value in network.decoder.layers.state_dict().items()}
    torch.save(shifted, folder / "taex_decoder.pth")
    return folder / "taex_encoder.pth"


def _later(name):
    place, _, rest = name.partition(".")
    return f"{int(place) + 1}.{rest}"


@pytest.fixture
def mine(ctx, tmp_path):
    """Return a context of the toy data set for some options."""

    def context(options):
        return replace(
            ctx,
            store=Store(tmp_path / "home"),
            machine=ddbench.Machine("cpu", "fp32", offline=True),
            ipc=1,
            ledger=[],
            resolved=Resolved(options),
            _dataset=toy_dataset(channels=3),
        )

    return context


def read(mine, source, preset=DIGITS):
    return PublishedAutoencoder.of(mine(VLCPOptions(small_vae=str(source)))).build(preset)


def test_released_files_are_read_layer_by_layer(mine, tmp_path):
    """Every layer of encoder and decoder, written out by hand from the released state dicts."""
    vae = read(mine, released(tmp_path))
    encoder, decoder = (torch.load(tmp_path / f"taex_{part}.pth", weights_only=True) for part in ("encoder", "decoder"))

    def conv(state, place, x, stride=1):
        return F.conv2d(x, state[f"{place}.weight"], state.get(f"{place}.bias"), stride, padding=1)

    def block(state, place, x):
        if f"{place}.pool.0.weight" in state:
            wide = F.conv2d(x, state[f"{place}.pool.0.weight"])
            wide = F.group_norm(wide, 4, state[f"{place}.pool.1.weight"], state[f"{place}.pool.1.bias"])
            x = x + F.conv2d(wide.relu(), state[f"{place}.pool.3.weight"])
        inner = conv(state, f"{place}.conv.0", x).relu()
        inner = conv(state, f"{place}.conv.2", inner).relu()
        return (conv(state, f"{place}.conv.4", inner) + x).relu()

    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = block(encoder, 1, conv(encoder, 0, (pixels + 1) / 2))
    for down in (2, 6, 10):
        x = conv(encoder, down, x, stride=2)
        for place in range(down + 1, down + 4):
            x = block(encoder, place, x)
    latents = conv(encoder, 14, x)
    torch.testing.assert_close(vae.encode(pixels).latent_dist.mode(), latents)
    assert vae.encode(pixels).latent_dist.std.count_nonzero() == 0

    x = conv(decoder, 1, torch.tanh(latents / 3) * 3).relu()
    for first in (3, 8, 13):
        for place in range(first, first + 3):
            x = block(decoder, place, x)
        x = conv(decoder, first + 4, F.interpolate(x, scale_factor=2))
    expected = conv(decoder, 19, block(decoder, 18, x)) * 2 - 1
    torch.testing.assert_close(vae.decode(latents).sample, expected)


def test_latents_are_normalised_and_reconstructions_are_not_changed(mine, tmp_path):
    vae = read(mine, released(tmp_path)).requires_grad_(False)
    pixels = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = vae.encode(pixels).latent_dist.mean
    decoded = vae.decode(before).sample
    normal = vae.normalise(before)
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std((0, 2, 3)), torch.ones(8))
    torch.testing.assert_close(vae.encode(pixels).latent_dist.mean, normal, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(vae.decode(normal).sample, decoded, atol=1e-4, rtol=1e-4)


def test_small_images_are_enlarged_and_made_smaller_again(mine, tmp_path):
    vae = read(mine, released(tmp_path), replace(DIGITS, side=32)).requires_grad_(False)
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = vae.encode(pixels).latent_dist.mean
    assert latents.shape == (1, 8, 4, 4) and len(vae.config.block_out_channels) == 3
    assert vae.decode(latents).sample.shape == pixels.shape
    large = F.interpolate(pixels, size=(32, 32), mode="bicubic", align_corners=False).clamp(-1, 1)
    torch.testing.assert_close(latents, vae.network.encoder(large))
    torch.testing.assert_close(vae.decode(latents).sample, F.avg_pool2d(vae.network.decoder(latents), 2))


def test_diffusers_own_layout(mine, tmp_path):
    tiny = AutoencoderTiny()
    tiny.save_pretrained(tmp_path / "tiny")
    vae, pixels = read(mine, tmp_path / "tiny"), torch.zeros(1, 3, 16, 16)
    torch.testing.assert_close(vae.encode(pixels).latent_dist.mean, tiny.encode(pixels).latents)


def test_what_is_no_tiny_autoencoder_is_explained(mine, tmp_path):
    with pytest.raises(ddbench.ModelError, match="holds 0 files of an encoder"):
        read(mine, tmp_path)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "x_encoder.pth")
    with pytest.raises(ddbench.ModelError, match=r"no x_decoder\.pth"):
        read(mine, tmp_path / "x_encoder.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "x_decoder.pth")
    with pytest.raises(ddbench.ModelError, match="'weight' is no weight of TAESD's"):
        read(mine, tmp_path / "x_encoder.pth")
    with pytest.raises(ValueError, match="the decoder's weights are not TAESD's"):
        states = [torch.load(released(tmp_path).with_name(f"taex_{part}.pth")) for part in ("encoder", "decoder")]
        from_states(states[0], {name: value for name, value in states[1].items() if "pool" not in name}, DIGITS)
    with pytest.raises(ddbench.UsageError, match="16 pixels at 24"):
        from ddbench_plugins.diffusion.small.step import small_preset

        options = VLCPOptions(small_vae="x", small_vae_side=24)
        small_preset(mine(options), options)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"small_vae_side": 64}, "small_vae_side is of a published autoencoder"),
        ({"small_vae": "x", "small_vae_steps": 5}, "small_vae_steps trains an autoencoder"),
        ({"backbone": "some/model", "small_vae": "x"}, "small_vae is of the small model, which backbone=some/model"),
        ({"backbone": "some/model", "small_dit_steps": 5}, "small_dit_steps is of the small model"),
        ({"backbone": "some/model", "small_preset": "long"}, "small_preset is of the small model"),
        ({"small_vae": "x", "small_unet_steps": 5}, "small_unet_steps is of the U-Net"),
        ({"small_vae": "x", "small_prediction": "v_prediction"}, "small_prediction is of the U-Net"),
    ],
)
def test_options_that_would_do_nothing_are_refused(chosen, said):
    with pytest.raises(ValueError, match=said):
        DiTOptions(**chosen)
    DiTOptions(small_vae="x", small_vae_side=64, small_dit_steps=5, small_preset="long")
    DiTOptions(backbone="some/model")
    DiTOptions(small_unet_steps=5, small_prediction="v_prediction")
    MGD3Options(small_vae="x", conditioning="text", small_unet_steps=5)


@pytest.mark.parametrize(("method", "options"), [(VLCP, VLCPOptions), (DiT, DiTOptions)])
def test_whole_runs_name_the_weights(mine, tmp_path, monkeypatch, method, options):
    """Latents of eight channels go through training, prototypes, image to image and the transformer."""
    source = released(tmp_path)
    of_unet = {"finetune_epochs": 1, "small_unet_steps": 2, "small_prediction": "v_prediction"}
    more = of_unet if method is VLCP else {"small_dit_steps": 2}
    chosen = options(small_vae=str(source), steps=3, acceptance="never", **more)
    method().distill(mine(chosen))
    # In a process that finds the model in the cache, nothing has imported the autoencoder's module yet.
    monkeypatch.delitem(sys.modules, "ddbench_plugins.diffusion.small.tiny")
    monkeypatch.delattr(small, "tiny")
    result = method().distill(replace(mine(chosen), ipc=2))
    assert result.images.dtype == np.uint8 and np.isfinite(result.images).all()
    assert (method is VLCP) == (tmp_path / "home" / "small-diffusion").exists()  # a transformer needs no U-Net
    if method is VLCP:
        about = result.extra["backbone"]["autoencoder"]
        assert about["name"] == "taex_encoder.pth" and len(about["weights"]) == 64
