from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.dit import train as dit
from ddbench_plugins.diffusion.dit.small import PRESETS as DIT_PRESETS
from ddbench_plugins.diffusion.loop import Optimisation
from ddbench_plugins.diffusion.pipeline import digest, load_pipeline, resolution
from ddbench_plugins.diffusion.posteriors import Posteriors
from ddbench_plugins.diffusion.small import training as small
from ddbench_plugins.diffusion.small.model import (
    LARGER,
    PRESETS,
    SmallPreset,
    build_text_encoder,
    build_unet,
    build_vae,
)
from ddbench_plugins.diffusion.small.perceptual import feature_loss
from ddbench_plugins.diffusion.small.tokenizer import write_tokenizer
from ddbench_plugins.diffusion.small.training import centre_latents, train_small_pipeline
from ddbench_plugins.diffusion.tensors import to_model
from ddbench_plugins.training.engine import Loop

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MemoryCheckpoint

TINY = replace(
    PRESETS["digits"],
    vae_channels=(8, 8, 8),
    unet_channels=(8, 16),
    head_width=8,
    text_width=16,
    vae_steps=6,
    unet_steps=6,
    vae_batch=4,
    unet_batch=4,
)
NAMES = ["zero", "one"]
TEXTS = ["The digit zero in the image is bright and wide.", "The digit one in the image is dark and narrow."]


def train(images: np.ndarray, folder: Path, preset: SmallPreset = TINY, **options: Any) -> dict[str, float]:
    labels = np.arange(len(images)) % 2
    return train_small_pipeline(images, labels, NAMES, TEXTS, preset, folder, seed=0, **options)


def test_tokenizer_knows_its_words_and_spells_the_others(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(TEXTS, tmp_path)
    assert tokenizer.tokenize("The DIGIT zero") == ["the</w>", "digit</w>", "zero</w>"]
    assert tokenizer.tokenize("zxq") == ["z", "x", "q</w>"]
    assert tokenizer.model_max_length == 77
    unknown = tokenizer("日本 é ~").input_ids[1:-1]
    assert tokenizer.unk_token_id not in unknown


def test_merges_are_limited(tmp_path: Path) -> None:
    assert len(write_tokenizer(TEXTS, tmp_path, merges=5)) == 512 + 5 + 2


def test_the_same_texts_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tokenizer([*TEXTS, "some more words for ties of equal counts"], tmp_path / name)
    for file in ("vocab.json", "merges.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("name", sorted(PRESETS | LARGER))
def test_presets_fit_together(name: str, tmp_path: Path) -> None:
    preset = (PRESETS | LARGER)[name]
    tokenizer = write_tokenizer(TEXTS, tmp_path)
    size = preset.resolution // 2 ** (len(preset.vae_channels) - 1)
    with torch.no_grad():
        hidden = build_text_encoder(preset, tokenizer, 0)(torch.zeros(1, 77, dtype=torch.long))[0]
        latent = build_vae(preset, 0).encode(torch.zeros(1, 3, preset.resolution, preset.resolution)).latent_dist.mean
        assert latent.shape == (1, preset.latent_channels or 4, size, size) and preset.latent_side == size
        assert build_unet(preset, 0, latent.shape[1])(latent, 1, hidden).sample.shape == latent.shape


@pytest.mark.parametrize(("side", "written_out"), [(16, True), (17, False)])
def test_attention_of_large_latents_is_not_written_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, side: int, written_out: bool
) -> None:
    """At 64, which small_vae_side=512 comes to, it would take many times the memory."""
    told = []

    def optimise(parameters: Any, loss_at: Any, settings: Optimisation, *_: Any, **__: Any) -> float:
        told.append(settings.plain_attention)
        return 0.0

    for module in (small, dit):
        monkeypatch.setattr(module, "optimise", optimise)
    encoded, labels = Posteriors(torch.zeros(1, 2, 4, side, side), torch.zeros(1, 2, 4, side, side), 1.0), np.arange(2)
    preset = replace(TINY, side=8 * side)
    small.train_unet(
        encoded, labels, small.PromptSource(["a", "b"], [], write_tokenizer(TEXTS, tmp_path)), preset, Loop(), seed=0
    )
    dit.train_transformer(encoded, labels, 2, replace(DIT_PRESETS[16], depth=1, width=12), seed=0)
    assert told == [written_out] * 2


def test_what_came_later_is_told_only_where_it_is_set() -> None:
    told = PRESETS["cifar10"].describe()
    assert "side" not in told and "snr_gamma" not in told and "prediction" not in told and told["unet_steps"] == 4500
    assert replace(PRESETS["cifar10"], side=64).describe() == {**told, "side": 64}


def test_features_are_compared_with_those_of_the_images() -> None:
    pixels = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    loss = feature_loss(lambda values: 2 * values, pixels + 1, pixels)
    assert loss == pytest.approx(4 / 6)  # squared errors of 4, relative to (4 + 4 + 16 + 0) / 4


@pytest.mark.parametrize(("changes", "differ"), [({}, False), ({"perceptual": 0.5}, True), ({"snr_gamma": 5.0}, True)])
def test_features_and_weights_of_the_loss_change_the_model(
    images: np.ndarray, tmp_path: Path, changes: dict[str, float], differ: bool
) -> None:
    plain = train(images, tmp_path / "plain")
    other = train(images, tmp_path / "other", preset=replace(TINY, **changes), features=lambda pixels: pixels)
    assert (plain["vae_loss"], plain["unet_loss"]) != (other["vae_loss"], other["unet_loss"]) or not differ
    assert (digest(load_pipeline(tmp_path / "plain")) != digest(load_pipeline(tmp_path / "other"))) == differ


def test_centring_changes_latents_only(images: np.ndarray) -> None:
    vae = build_vae(TINY, 0)
    with torch.no_grad():
        vae.quant_conv.bias[:4] += 3.0
    pixels = to_model(images[:, :16, :16])
    before = Posteriors.of(vae, [pixels], flip=False).mean[0]
    decoded = vae.decode(before).sample
    centre_latents(vae, before)
    after = Posteriors.of(vae, [pixels], flip=False).mean[0]
    torch.testing.assert_close(after.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(vae.decode(after).sample, decoded, atol=1e-4, rtol=1e-4)


def test_training_writes_a_pipeline(images: np.ndarray, tmp_path: Path) -> None:
    report = train(images, tmp_path)
    pipeline = load_pipeline(tmp_path, offline=True)
    assert resolution(pipeline) == 16
    assert pipeline.vae.config.scaling_factor == pytest.approx(1 / report["latent_std"])
    assert pipeline.tokenizer.tokenize("bright digit") == ["bright</w>", "digit</w>"]
    assert 0 < report["reconstruction_mse"] < 1


@pytest.mark.parametrize("saves", [1, 3])
def test_resume_is_bit_identical(
    images: np.ndarray, tmp_path: Path, checkpoint_type: type[MemoryCheckpoint], saves: int
) -> None:
    train(images, tmp_path / "whole")
    stopped = checkpoint_type(stop_after=saves)
    with pytest.raises(KeyboardInterrupt):
        train(images, tmp_path / "resumed", loop=Loop(checkpoint=stopped, checkpoint_seconds=0))
    train(images, tmp_path / "resumed", loop=Loop(checkpoint=stopped, checkpoint_seconds=0))
    whole, resumed = load_pipeline(tmp_path / "whole"), load_pipeline(tmp_path / "resumed")
    assert digest(whole) == digest(resumed)
    assert whole.vae.config.scaling_factor == resumed.vae.config.scaling_factor
