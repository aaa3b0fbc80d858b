"""Diffusion transformers: loading, labels, loss, training, sampling, and the method ``dit``."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion import ancestral
from ddbench_plugins.diffusion.dit import backbone as base
from ddbench_plugins.diffusion.dit import images, noise, pipeline, sample, small, train
from ddbench_plugins.diffusion.pipeline import BackboneUnavailableError, resolution
from ddbench_plugins.diffusion.pipeline import digest as weights_digest
from ddbench_plugins.diffusion.posteriors import Posteriors, encode
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.seeding import make_generator

import ddbench
from ddbench.errors import DivergedError
from ddbench.experiment.pipeline import artifact, distil, prepare_method
from ddbench.keys import digest
from ddbench.plugin.options import Preset
from ddbench.runtime.store import Store
from ddbench.testing.diffusion import tiny_dit

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MemoryCheckpoint

    from ddbench import Context, Dataset

TINY = small.DiTPreset(patch=2, depth=2, width=16, heads=2, steps=6, batch=4)
LINEAR = noise.Noise(small.build_scheduler().betas)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_dit(tmp_path_factory.mktemp("dit"), classes=10)
    (made / pipeline.CLASSES).write_text(json.dumps([f"{9 - place}" for place in range(10)]))
    return made


def _on(ctx: Context, data: Dataset, preset: str = "", ipc: int = 2, method: str = "dit", **options: Any) -> Any:
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, method, ipc, 0)


# Loading


@pytest.mark.parametrize("published", [False, True])
def test_the_hubs_layout_loads(tmp_path: Path, published: bool) -> None:
    tiny_dit(tmp_path, published=published)
    assert bool(list(tmp_path.glob("transformer/*.bin"))) == published
    found = pipeline.load_dit(tmp_path)
    assert type(found.transformer).__name__ == "DiTTransformer2DModel"
    first, second = found.transformer.transformer_blocks
    assert first.norm1.emb is second.norm1.emb
    assert (resolution(found, "transformer"), pipeline.null_label(found.transformer)) == (16, 3)


def test_bin_files_are_read_without_a_remark(tmp_path: Path) -> None:
    import logging

    tiny_dit(tmp_path, published=True)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    try:
        pipeline.load_dit(tmp_path)
    finally:
        logger.removeHandler(handler)
    assert said == []


def test_embeddings_that_differ_stay_apart(tmp_path: Path) -> None:
    loaded = pipeline.load_dit(tiny_dit(tmp_path)).transformer
    other = small.build_transformer(TINY, 8, 3, seed=1)
    loaded.transformer_blocks[1].norm1.emb = other.transformer_blocks[1].norm1.emb
    pipeline.share_embeddings(loaded)
    assert loaded.transformer_blocks[0].norm1.emb is not loaded.transformer_blocks[1].norm1.emb


def test_saved_and_loaded_is_the_same(folder: Path, tmp_path: Path) -> None:
    before = pipeline.load_dit(folder)
    pipeline.save_dit(before, tmp_path / "again", ["a"] * 10)
    after = pipeline.load_dit(tmp_path / "again")
    assert weights_digest(before, pipeline.PARTS) == weights_digest(after, pipeline.PARTS)
    assert pipeline.class_ids(tmp_path / "again", after) == ["a"] * 10
    assert before.transformer.transformer_blocks[0].norm1.emb is before.transformer.transformer_blocks[1].norm1.emb


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    tiny_dit(tmp_path)
    (tmp_path / "vae" / "config.json").unlink()
    with pytest.raises(BackboneUnavailableError, match=r"missing: \['vae/config.json'\]"):
        pipeline.load_dit(tmp_path)
    with pytest.raises(BackboneUnavailableError, match="transformer/, vae/"):
        pipeline.load_dit("facebook/DiT-XL-2-256", offline=True)
    with pytest.raises(BackboneUnavailableError, match=r"missing: \['config.json'\]"):
        pipeline.load_autoencoder(str(tmp_path / "vae"))


def test_fixed_variances_are_refused(tmp_path: Path) -> None:
    from diffusers import DiTTransformer2DModel

    DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=2, sample_size=8, num_embeds_ada_norm=3
    ).save_pretrained(tiny_dit(tmp_path) / "transformer")
    with pytest.raises(BackboneUnavailableError, match="learned variances"):
        pipeline.load_dit(tmp_path)


# Labels


def test_labels_go_by_class_id(ctx: Context, digits: Dataset, folder: Path) -> None:
    model = base.DiTBackbone(replace(ctx, _dataset=digits), str(folder), None, {"model": "tiny"})
    assert model.labels() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    renamed = replace(digits, class_ids=("0", "x", *digits.class_ids[2:]))
    model = base.DiTBackbone(replace(ctx, _dataset=renamed), str(folder), None, {"model": "tiny"})
    with pytest.raises(ddbench.UsageError, match=r"cannot draw 1 of the 10 classes of digits: one \(x\)"):
        model.labels()


def test_a_thousand_labels_are_imagenets(ctx: Context, digits: Dataset, tmp_path: Path) -> None:
    tiny_dit(tmp_path, classes=1000)
    ids = ("n03888257", "n01440764", "n02102040", *(f"n0{i}" for i in range(7)))
    model = base.DiTBackbone(
        replace(ctx, _dataset=replace(digits, class_ids=ids)), str(tmp_path), None, {"model": "xl"}
    )
    with pytest.raises(ddbench.UsageError, match="cannot draw 7 of the 10"):
        model.labels()
    places = {name: place for place, name in enumerate(model.class_ids())}
    assert [places[name] for name in ids[:3]] == [701, 0, 217]


def test_unknown_labels_are_asked_for(ctx: Context, digits: Dataset, tmp_path: Path) -> None:
    model = base.DiTBackbone(replace(ctx, _dataset=digits), str(tiny_dit(tmp_path)), None, {"model": "tiny"})
    with pytest.raises(ddbench.ModelError, match="has 3 labels, but 1000 class ids are known"):
        model.labels()


# Loss


def _batch(count: int = 5) -> tuple[torch.Tensor, ...]:
    stream = torch.Generator().manual_seed(0)
    clean, added = (torch.randn(count, 4, 3, 3, generator=stream) for each in range(2))
    return clean, added, torch.tensor([1, 20, 300, 700, 999])[:count]


def test_noise_and_back() -> None:
    clean, added, times = _batch()
    noisy = LINEAR.noisy(clean, added, times)
    torch.testing.assert_close(noisy, small.build_scheduler().add_noise(clean, added, times), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(LINEAR.clean(noisy, added, times), clean, rtol=1e-3, atol=2e-3)


def test_a_step_back_is_the_schedulers() -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(small.build_scheduler().config, variance_type="learned_range")
    noisy, predicted, _ = _batch(1)
    variance = torch.full_like(noisy, 0.3)
    for time in (1, 500, 999):
        times = torch.tensor([time])
        mean, log_variance = LINEAR.step_back(noisy, LINEAR.clean(noisy, predicted, times), times, variance)
        drawn = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(3))
        step = scheduler.step(
            torch.cat([predicted, variance], 1), time, noisy, generator=torch.Generator().manual_seed(3)
        ).prev_sample
        torch.testing.assert_close(mean + (0.5 * log_variance).exp() * drawn, step, rtol=1e-4, atol=1e-4)


def test_the_bound_is_zero_at_the_posterior_and_trains_variances_only() -> None:
    clean, added, times = _batch()
    noisy = LINEAR.noisy(clean, added, times)
    least = torch.full_like(added, -1.0)
    assert float(LINEAR.bound(added, least, clean, noisy, times).abs().max()) < 1e-3
    assert float(LINEAR.bound(added, -least, clean, noisy, times)[1:].min()) >= 0
    output = torch.cat([added + 0.1, torch.zeros_like(added)], 1).requires_grad_()
    loss = LINEAR.loss(output, clean, noisy, added, times)
    assert bool((loss > 0.01).all())
    loss.sum().backward()
    # The gradient at the noise is that of the squared error alone: 2 · 0.1 / 36.
    torch.testing.assert_close(output.grad[:, :4], torch.full_like(added, 0.2 / 36), rtol=1e-3, atol=1e-6)
    assert float(output.grad[:, 4:].abs().max()) > 0


def test_bins_hold_all_probability() -> None:
    values = torch.linspace(-1, 1, 256)
    logs = noise._discretised(values, torch.tensor(0.3), torch.tensor(-1.0))
    assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-4)


# Training


def test_a_new_transformer_is_dits() -> None:
    transformer = small.build_transformer(TINY, 8, 3, seed=0).eval()
    output = transformer(torch.randn(2, 4, 8, 8), timestep=torch.tensor([1, 2]), class_labels=torch.tensor([0, 3]))
    assert output.sample.shape == (2, 8, 8, 8)
    assert float(output.sample.detach().abs().max()) == 0  # the output, and the gate of every block, begin at zero
    names = [name for name, _ in transformer.named_parameters()]
    assert sum("embedding_table" in name for name in names) == 1


@pytest.mark.parametrize("side", sorted(small.PRESETS))
def test_presets_fit_the_small_autoencoders(side: int) -> None:
    from ddbench_plugins.diffusion.small.model import PRESETS

    autoencoder = next(preset for preset in PRESETS.values() if preset.resolution == side)
    latent = side // 2 ** (len(autoencoder.vae_channels) - 1)
    transformer = small.build_transformer(small.PRESETS[side], latent, 10, seed=0).eval()
    with torch.no_grad():
        assert transformer(
            torch.zeros(1, 4, latent, latent), timestep=torch.tensor([1]), class_labels=torch.tensor([10])
        ).sample.shape == (1, 8, latent, latent)


def _posteriors(count: int = 9) -> Posteriors:
    stream = torch.Generator().manual_seed(1)
    mean = torch.randn(2, count, 4, 8, 8, generator=stream)
    return Posteriors(mean, torch.full_like(mean, 0.1), 1.5)


def _weights(checkpoint: Any = None, seconds: float = 60, **changes: Any) -> list[torch.Tensor]:
    preset, labels = replace(TINY, **changes), np.arange(9) % 3
    transformer, report = train.train_transformer(
        _posteriors(), labels, 3, preset, seed=0, loop=Loop(checkpoint=checkpoint, checkpoint_seconds=seconds)
    )
    assert report["parameters"] == sum(value.numel() for value in transformer.parameters())
    return [value.detach().clone() for value in transformer.parameters()]


@pytest.mark.parametrize("saves", [1, 2])
def test_resumed_training_is_bit_identical(checkpoint_type: type[MemoryCheckpoint], saves: int) -> None:
    stopped = checkpoint_type(stop_after=saves)
    with pytest.raises(KeyboardInterrupt):
        _weights(stopped, seconds=0)
    assert all(torch.equal(a, b) for a, b in zip(_weights(stopped, seconds=0), _weights(), strict=True))


def test_training_learns() -> None:
    losses = []
    for steps in (10, 200):
        preset = replace(TINY, steps=steps, rate=3e-3)
        _, report = train.train_transformer(_posteriors(), np.arange(9) % 3, 3, preset, seed=0)
        losses.append(report["loss"])
    assert losses[1] < 0.8 * losses[0]


def test_labels_are_dropped_at_the_rate_of_dit() -> None:
    labels = torch.zeros(20_000, dtype=torch.long)
    drawn = train.draw(torch.zeros(20_000, 1, 1, 1), labels, 7, LINEAR, make_generator(0))
    assert set(drawn.labels.tolist()) == {0, 7}
    assert float((drawn.labels == 7).float().mean()) == pytest.approx(0.1, abs=0.01)


def test_posteriors_are_those_of_the_autoencoder(digits: Dataset, folder: Path) -> None:
    vae = pipeline.load_dit(folder).vae
    found = encode(vae, digits.train.images, 16, flip=True, batch_size=3, rows=[4, 9, 2, 7])
    assert found.mean.shape == (2, 4, 4, 8, 8)
    pixels = torch.from_numpy(digits.train.images.batch([9], 16).repeat(3, 3)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = vae.encode(pixels.flip(3)).latent_dist
    torch.testing.assert_close(found.mean[1, 1], expected.mean[0], rtol=1e-4, atol=1e-5)
    drawn = found.draw(torch.tensor([1, 1, 1, 1]), make_generator(0)) / vae.config.scaling_factor
    nearest = torch.stack([(drawn - found.mean[view, 1]).flatten(1).norm(dim=1) for view in range(2)]).argmin(0)
    assert set(nearest.tolist()) == {0, 1}


# Sampling


def test_respacing_is_adms() -> None:
    stride, place, expected = 999 / 49, 0.0, []
    for _ in range(50):
        expected.append(round(place))
        place += stride
    assert sample.respaced(1000, 50) == expected[::-1]
    assert sample.respaced(1000, 2) == [999, 0]
    with pytest.raises(ValueError, match="in 2…1000"):
        sample.respaced(1000, 1)


@pytest.mark.parametrize("channels", [3, 4])
def test_guidance_acts_on_the_first_channels(folder: Path, channels: int) -> None:
    transformer = pipeline.load_dit(folder).transformer
    latents, time = torch.randn(2, 4, 8, 8), torch.tensor(500)
    classes = torch.tensor([1, 2])
    with torch.no_grad():
        plain = sample.predict(transformer, latents, time, classes, 1, channels)
        free = sample.predict(transformer, latents, time, torch.tensor([10, 10]), 1, channels)
        guided = sample.predict(transformer, latents, time, classes, 4, channels)
    expected = free + 4 * (plain - free)
    assert not torch.allclose(plain, free)
    torch.testing.assert_close(guided[:, :channels], expected[:, :channels])
    torch.testing.assert_close(guided[:, channels:], plain[:, channels:])


def test_an_image_depends_on_its_own_stream_only(folder: Path) -> None:
    found = pipeline.load_dit(folder)
    streams = [make_generator(0, label) for label in range(3)]
    heard: list[int] = []
    both, one = (sample.LabelledDenoiser(found, labels, 4, 4.0) for labels in ([0, 1, 2], [2]))
    together = ancestral.sample_latents(both, streams, batch_size=2, progress=heard.append)
    alone = ancestral.sample_latents(one, [make_generator(0, 2)])
    np.testing.assert_allclose(together[2], alone[0], rtol=1e-4, atol=1e-4)
    assert heard == [0, 1, 1, 2, 2, 2, 2, 3]


def test_a_transformer_or_autoencoder_that_gives_nan_ends_with_its_own_error(digits: Dataset, folder: Path) -> None:
    found = pipeline.load_dit(folder)
    with torch.no_grad():
        next(found.transformer.parameters()).fill_(torch.nan)
        next(found.vae.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(DivergedError, match="sampled latents"):
        ancestral.sample_latents(sample.LabelledDenoiser(found, [0], 2, 4.0), [make_generator(0, 0)])
    with pytest.raises(DivergedError, match="posteriors of the autoencoder"):
        encode(found.vae, digits.train.images, 16, flip=False, rows=[0])


def test_coverage_and_similarity() -> None:
    real = np.array([[1, 0], [0, 2], [3, 3]], np.float32)
    covered, alike = images.cosines(real, np.array([[5, 0], [0, 1]], np.float32))
    assert covered == pytest.approx((1 + 1 + 0.5**0.5) / 3)
    assert alike == pytest.approx(0)
    assert images.cosines(real, real[2:]) == (pytest.approx((2 * 0.5**0.5 + 1) / 3), None)


# The method


def test_settings_by_situation(ctx: Context, digits: Dataset) -> None:
    sane, paper, official = (_on(ctx, digits, preset)[1].options for preset in ("", "paper", "paper+official"))
    assert (sane.backbone, sane.steps, sane.guidance_scale, sane.cfg_channels) == ("small", 50, 4.0, 4)
    assert (paper.backbone, paper.size, paper.cfg_channels) == ("facebook/DiT-XL-2-256", 256, 4)
    assert (official.cfg_channels, official.decoder) == (3, "stabilityai/sd-vae-ft-mse")


@pytest.mark.parametrize("method", ["dit", "mgd3", "cao2", "d3hr", "igd", "minimax"])
def test_all_published_weights_are_listed(ctx: Context, digits: Dataset, method: str) -> None:
    names = {"small_vae": "someone/autoencoder", "decoder": "someone/decoder"}
    _, mine, _ = bound = _on(ctx, digits, method=method, **names)
    assert {weights.source for weights in bound.plugin.weights(mine)} == set(names.values())


@pytest.mark.parametrize("changes", [{"latent_channels": 8}, {"block_out_channels": [8, 8, 8]}])
def test_a_decoder_of_other_latents_is_refused(
    ctx: Context, digits: Dataset, folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    from diffusers import AutoencoderKL

    blocks = len(changes.get("block_out_channels", [8, 8]))
    sides = {"down_block_types": ("DownEncoderBlock2D",) * blocks, "up_block_types": ("UpDecoderBlock2D",) * blocks}
    shape = {"latent_channels": 4, "block_out_channels": [8, 8], "norm_num_groups": 4, **sides, **changes}
    AutoencoderKL(**shape).save_pretrained(tmp_path / "other")
    options = {"backbone": str(folder), "decoder": str(tmp_path / "other"), "steps": "2", "acceptance": "never"}
    with pytest.raises(ddbench.UsageError, match=r"decodes latents of .* the model's have 4 and 1/2") as caught:
        distil(_on(ctx, digits, **options))
    assert "method.decoder=''" in caught.value.hint


def test_a_decoders_folder_counts_by_its_content_whatever_its_name(
    ctx: Context, digits: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "vae", tmp_path / "decoder")
    keys = set()
    for bits in (1, 2):
        (tmp_path / "decoder" / "config.json").write_text(json.dumps(bits))
        bound = _on(ctx, digits, backbone=str(folder), decoder="decoder")
        keys |= {bound.plugin.sampled.of(bound.ctx, 0, 10).key, digest(artifact(bound))}
    assert len(keys) == 4


def test_interrupted_sampling_goes_on(
    ctx: Context, digits: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"backbone": str(folder), "steps": "3", "acceptance": "never"}
    whole = distil(_on(ctx, digits, **options)).content
    assert whole.images.shape == (20, 16, 16, 1)
    assert whole.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert set(whole.extra["latents"]) == {"coverage", "similarity"}

    monkeypatch.setattr(images, "CHUNK", 8)
    stopped = replace(ctx, store=Store(tmp_path / "other"))
    plain, calls = ancestral.sample_latents, []

    def interrupted(*args: Any, **more: Any) -> Any:
        calls.append(len(args[1]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*args, **more)

    monkeypatch.setattr(ancestral, "sample_latents", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distil(_on(stopped, digits, **options))
    resumed = distil(_on(stopped, digits, **options)).content
    assert calls == [8, 8, 8, 4]
    np.testing.assert_allclose(resumed.images.astype(int), whole.images.astype(int), atol=1)


def test_fewer_images_are_the_first_of_more(ctx: Context, digits: Dataset, folder: Path) -> None:
    options = {"backbone": str(folder), "steps": "3", "acceptance": "never"}
    one, two = (distil(_on(ctx, digits, ipc=ipc, **options)).content.images for ipc in (1, 2))
    np.testing.assert_allclose(one.astype(int), two[::2].astype(int), atol=1)
    assert not np.array_equal(two[0], two[1])


@pytest.mark.slow
def test_on_digits(ctx: Context, digits: Dataset) -> None:
    made = distil(_on(ctx, digits, small_dit_steps="20", steps="5", acceptance_network="mlp")).content
    assert made.images.shape == (20, 16, 16, 1)
    assert made.extra["backbone"]["preset"]["steps"] == 20
    assert 0 <= made.extra["acceptance"]["recognition"]["rate"] <= 1


def test_the_key_of_sampled_images_holds_the_decoder_that_is_here(
    ctx: Context, digits: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "models--someone--decoder"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    ctx = replace(ctx, machine=replace(ctx.machine, offline=True))
    bound = _on(ctx, digits, backbone=str(folder), decoder="someone/decoder")
    with pytest.raises(ddbench.ModelError, match="someone/decoder") as caught:
        _ = bound.plugin.sampled.of(bound.ctx, 0, 10).key
    assert "method.decoder=''" in caught.value.hint
    keys = []
    for commit in ("1" * 40, "2" * 40):
        shutil.copytree(folder / "vae", hub / "snapshots" / commit)
        (hub / "refs").mkdir(exist_ok=True)
        (hub / "refs" / "main").write_text(commit)
        call = bound.plugin.sampled.of(bound.ctx, 0, 10)
        assert call.inputs["identity"] == {"decoder": {"hub": "someone/decoder", "commit": commit}}
        keys.append((call.key, digest(artifact(bound))))
        assert bound.plugin.identity(bound.ctx)["decoder"] == commit
    assert len({*keys[0], *keys[1]}) == 4
    assert base.Decoder(bound.ctx, "someone/decoder", None, {}).load().config.latent_channels == 4
