"""VLCP end to end with a tiny random diffusion model, its cached steps, and going on after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ddbench_plugins.captioners.metadata import write_metadata
from ddbench_plugins.diffusion import acceptance, class_latents, clustering, synthesis
from ddbench_plugins.diffusion import backbone as base_model
from ddbench_plugins.methods.vlcp.distiller import VLCP
from ddbench_plugins.methods.vlcp.information import bag_of_words
from ddbench_plugins.methods.vlcp.options import VLCPOptions

import ddbench
from ddbench.plugin.contracts import Budget
from ddbench.plugin.options import Resolved
from ddbench.runtime.store import Store
from ddbench.testing.diffusion import tiny_pipeline
from ddbench.testing.toy import toy_dataset


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("diffusion") / "tiny")


@pytest.fixture
def run(ctx, model, tmp_path):
    """Distil the toy data set; keyword arguments are options, or change IPC, seed, home or channels."""

    def distil(*, ipc=2, seed=0, home="home", channels=3, explicit=None, **options):
        chosen = {
            "backbone": str(model),
            "finetune_epochs": 1,
            "finetune_batch_size": 4,
            "steps": 3,
            "acceptance": "never",
            **options,
        }
        mine = replace(
            ctx,
            store=Store(tmp_path / home),
            machine=ddbench.Machine("cpu", "fp32", offline=True),
            ipc=ipc,
            base_seed=seed,
            ledger=[],
            explicit=explicit or {},
            resolved=Resolved(VLCPOptions(**chosen)),
            _dataset=toy_dataset(channels=channels),
        )
        result = VLCP().distill(mine)
        result.check(mine.dataset, Budget(ipc), "vlcp")
        return result, {entry["step"]: entry["key"] for entry in mine.ledger}

    return distil


def test_the_set_holds_generated_images_with_their_text_prototypes(run):
    result, steps = run()
    assert result.images.shape == (6, 8, 8, 3)
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for prompt, name in zip(result.prompts, ("rows", "rows", "columns", "columns", "checks", "checks"), strict=True):
        assert prompt.startswith(f"The {name} in the image is a ")
    assert list(steps) == [
        *("captions", "latents", "prototypes", "finetuned", "synthesis", "caption-information"),
    ]
    assert result.extra["captioner"] == "attributes"
    assert result.extra["inliers"] == [12, 12, 12]
    assert result.extra["backbone"]["model"] == "tiny"
    json.dumps(result.extra, allow_nan=False)
    again, _ = run(home="another")
    assert np.array_equal(result.images, again.images)


def test_steps_are_shared_as_far_as_they_can_be(run):
    _, first = run()
    _, more = run(ipc=3)
    _, other = run(seed=1)
    assert {name for name in first if first[name] == more[name]} == {
        *("captions", "latents", "finetuned", "caption-information"),
    }
    assert {name for name in first if first[name] == other[name]} == {"captions", "caption-information"}
    _, text = run(beta=0.9, guidance_scale=5)
    assert {name for name in first if first[name] != text[name]} == {"prototypes", "synthesis"}


def test_grey_data_get_grey_images(run):
    result, _ = run(channels=1, finetune=False)
    assert result.images.shape == (6, 8, 8, 1)


def test_labels_as_prompts_without_fine_tuning_need_no_captions(run):
    result, steps = run(text="label", finetune=False, size=12)
    assert result.prompts == ("rows", "rows", "columns", "columns", "checks", "checks")
    assert result.images.shape == (6, 12, 12, 3)
    assert "captions" not in steps and "finetuned" not in steps
    assert result.extra["captioner"] is None


def test_outliers_are_left_out(run):
    result, _ = run(contamination=0.25, finetune=False)
    assert result.extra["inliers"] == [9, 9, 9]


def test_wide_latents_are_kept_in_half_precision_and_clustered_once_in_their_span(run, monkeypatch, tmp_path):
    narrow, _ = run(finetune=False, contamination=0.1, resolution=32)
    spanned = []
    coordinates = clustering.coordinates
    monkeypatch.setattr(clustering, "coordinates", lambda points: spanned.append(points.shape) or coordinates(points))
    for module in (clustering, class_latents):
        monkeypatch.setattr(module, "WIDE", 24)
    wide, _ = run(finetune=False, contamination=0.1, resolution=32, home="wide")
    (stored,) = (tmp_path / "wide" / "latents").glob("*/00000.npy")
    kept = np.load(stored)
    assert kept.dtype == np.float16 and kept[0].size >= 24
    assert spanned == [(12, kept[0].size)] * 3
    assert wide.extra["inliers"] == narrow.extra["inliers"] and wide.prompts == narrow.prompts
    assert np.abs(wide.images.astype(int) - narrow.images).mean() < 2


def test_acceptance_compares_with_real_images(run, monkeypatch):
    monkeypatch.setattr("ddbench_plugins.teachers.observers.get_teacher", lambda ctx, network, floor: Brightness())
    monkeypatch.setattr("ddbench_plugins.teachers.observers.teacher_of", lambda ctx, network: judge.of(ctx))
    result, steps = run(acceptance="always", finetune=False)
    found = result.extra["acceptance"]
    assert found["recognition"]["count"] == 6
    assert set(found["prompt_swap"]) == {"moved", "stayed", "reverse"}
    assert found["nearest"]["held_out_median"] > 0
    assert "synthesis-plain" not in steps
    few, steps = run(acceptance="always", finetune=False, acceptance_images=3)
    assert few.extra["acceptance"]["recognition"]["count"] == 6
    assert "synthesis-plain" in steps


@ddbench.step()
def judge(ctx, out):
    """Stand for the training of a network."""


class Brightness:
    """Stands for a trained network."""

    digest = "0"

    def predict(self, images):
        return (images.mean((1, 2, 3)) // 86).astype(int)

    def describe(self):
        return {"network": "brightness"}


@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupted_run_goes_on_to_the_same_images(run, monkeypatch, after):
    monkeypatch.setattr(synthesis, "CHUNK", 2)
    whole, _ = run(home="whole", ipc=4)
    save, kept = synthesis.save_array, []

    def interrupted(path, array):
        if len(kept) == after:
            raise KeyboardInterrupt
        kept.append(path.name)
        save(path, array)

    monkeypatch.setattr(synthesis, "save_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(ipc=4)
    monkeypatch.setattr(synthesis, "save_array", save)
    resumed, _ = run(ipc=4)
    assert np.array_equal(whole.images, resumed.images) and whole.prompts == resumed.prompts


def test_interrupted_fine_tuning_goes_on_to_the_same_weights(run, monkeypatch, tmp_path):
    whole, steps = run(home="whole", finetune_epochs=12)
    save, calls = ddbench.Step.save, []

    def interrupted(self, state):
        save(self, state)
        if self.name == "finetuned":
            calls.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(ddbench.Step, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(finetune_epochs=12)
    assert list((tmp_path / "home" / "finetuned" / (steps["finetuned"] + ".partial")).glob("checkpoint-*.pt"))
    monkeypatch.setattr(ddbench.Step, "save", save)
    resumed, _ = run(finetune_epochs=12)
    assert np.array_equal(whole.images, resumed.images)


def test_a_missing_model_is_explained_before_anything_is_captioned(run, tmp_path):
    with pytest.raises(ddbench.ModelError, match="benjamin-paine/stable-diffusion-v1-5") as found:
        run(backbone="benjamin-paine/stable-diffusion-v1-5")
    assert "backbone=small" in found.value.hint
    assert not (tmp_path / "home" / "captions").exists()


def test_bad_stop_words_are_explained(run):
    with pytest.raises(ddbench.UsageError, match=r"Stop words cannot be read from 'nowhere\.txt'"):
        run(stop_words="nowhere.txt", finetune=False)


def test_the_shipped_model_is_that_of_the_digits(ctx, digits):
    mine = replace(ctx, _dataset=digits)
    preset = base_model.small_preset(mine, VLCPOptions())
    assert base_model.shipped_model(mine, preset).name == "digits"
    assert base_model.shipped_model(mine, replace(preset, unet_steps=1)) is None
    other = replace(ctx, _dataset=toy_dataset())
    assert base_model.shipped_model(other, preset) is None


def test_a_small_model_is_trained_where_none_ships(run):
    result, steps = run(backbone="small", small_vae_steps=2, small_unet_steps=2, finetune=False)
    assert "small-diffusion" in steps and result.extra["backbone"]["shipped"] is False
    other_seed, more = run(backbone="small", small_vae_steps=2, small_unet_steps=2, finetune=False, seed=1)
    assert steps["small-diffusion"] == more["small-diffusion"]
    assert not np.array_equal(result.images, other_seed.images)


def test_options_of_the_captioner_are_for_the_one_that_is_asked_for(run, tmp_path):
    """The small model's words are measured by another captioner, which has no options."""
    ids = toy_dataset(channels=3).train.ids
    write_metadata(tmp_path / "cap.jsonl", ids, (f"a thing, number {place}" for place in range(len(ids))))
    small = {"backbone": "small", "small_vae_steps": 1, "small_unet_steps": 1, "finetune": False}
    result, _ = run(captioner="file", explicit={"captioner": {"path": str(tmp_path / "cap.jsonl")}}, **small)
    assert all(prompt.startswith("a thing, number") for prompt in result.prompts)


def test_a_bag_of_words_without_class_names():
    texts = ["a red apple", "a green pear"] * 20
    labels = np.array([0, 1] * 20)
    told = bag_of_words(texts, labels, ("apple", "pear"))
    assert told["accuracy"] == 1 and told["words"] == 2 and told["train"] + told["held_out"] == 40
    silent = bag_of_words(["the apple", "the pear"] * 20, labels, ("apple", "pear"))
    assert silent["accuracy"] == silent["chance"] == 0.5 and silent["words"] == 0


def test_prompts_are_swapped_with_the_next_class():
    labels = np.repeat(np.arange(3), 2)
    assert acceptance.next_class(labels, 3).tolist() == [2, 3, 4, 5, 0, 1]
    assert acceptance.spread(labels, 3, 100).tolist() == [0, 1, 2, 3, 4, 5]
    assert acceptance.spread(labels, 3, 3).tolist() == [0, 2, 4]


def test_resizing_is_bicubic():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    from PIL import Image

    bicubic = np.asarray(Image.fromarray(pixels[0]).resize((4, 4), Image.Resampling.BICUBIC))
    assert np.array_equal(synthesis.resized(pixels, 4)[0], bicubic)
    assert synthesis.resized(pixels, 8) is pixels


def test_a_whole_run_in_bf16(model, tmp_path):
    options = {
        "backbone": str(model),
        "finetune_epochs": 2,
        "finetune_batch_size": 8,
        "steps": 2,
        "acceptance": "never",
    }
    found = {}
    for precision in ("fp32", "bf16"):
        (record,) = ddbench.run(
            "vlcp",
            "nearest-mean",
            dataset="toy",
            ipc=1,
            options={"method": {**options, "gradient_checkpointing": True}},
            plugins=[Path(__file__).parents[2] / "toy_plugin.py"],
            registry=tmp_path / "registry",
            device="cpu",
            precision=precision,
            offline=True,
        )
        assert record.environment["precision"] == precision
        found[precision] = record
    losses = [found[name].distilled.extra["backbone"]["finetuned"]["loss"] for name in ("fp32", "bf16")]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)  # another precision, the same training
    assert found["fp32"].key != found["bf16"].key and found["fp32"].digest != found["bf16"].digest
