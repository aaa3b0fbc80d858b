"""D4M: mini-batch k-means over latents, denoising under class names, going on after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.diffusion import synthesis
from ddbench_plugins.diffusion.backbone import Backbone, base_model
from ddbench_plugins.diffusion.latents import decode_latents
from ddbench_plugins.diffusion.synthesis import read_prototypes
from ddbench_plugins.methods.d4m import prototypes
from ddbench_plugins.methods.d4m.distiller import D4M
from ddbench_plugins.methods.d4m.options import D4MOptions
from ddbench_plugins.methods.vlcp.distiller import VLCP
from ddbench_plugins.methods.vlcp.options import VLCPOptions

import ddbench
from ddbench.plugin.contracts import Budget
from ddbench.plugin.options import Preset, Resolved, load_presets, resolve
from ddbench.runtime.store import Store
from ddbench.testing.diffusion import tiny_pipeline
from ddbench.testing.toy import toy_dataset

NAMES = ("rows", "columns", "checks")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("diffusion") / "tiny")


@pytest.fixture
def prepare(ctx, model, tmp_path):
    """Return a context for the toy data set; keyword arguments are options, or change IPC, seed, home or channels."""

    def prepared(*, ipc=2, seed=0, home="home", channels=3, data=None, kind=D4MOptions, **options):
        chosen = {"backbone": str(model), "steps": 3, "acceptance": "never", **options}
        return replace(
            ctx,
            store=Store(tmp_path / home),
            machine=ddbench.Machine("cpu", "fp32", offline=True),
            ipc=ipc,
            base_seed=seed,
            ledger=[],
            resolved=Resolved(kind(**chosen)),
            _dataset=data or toy_dataset(channels=channels),
        )

    return prepared


@pytest.fixture
def run(prepare):
    """Distil the toy data set and return the result and the keys of its steps."""

    def distil(**changes):
        mine = prepare(**changes)
        result = D4M().distill(mine)
        result.check(mine.dataset, Budget(mine.ipc), "d4m")
        return result, {entry["step"]: entry["key"] for entry in mine.ledger}

    return distil


def test_latents_are_fed_in_chunks():
    assert prototypes.chunks(25, 10, rest=True) == [slice(0, 10), slice(10, 20), slice(20, 25)]
    assert prototypes.chunks(25, 10, rest=False) == [slice(0, 10), slice(10, 20)]
    assert prototypes.chunks(20, 10, rest=True) == prototypes.chunks(20, 10, rest=False)
    assert prototypes.chunks(7, 10, rest=True) == [slice(0, 7)]
    assert prototypes.chunks(7, 10, rest=False) == []


@pytest.mark.parametrize("rest", [True, False])
def test_a_centre_is_the_running_mean_of_what_was_fitted(rest):
    latents = np.random.default_rng(0).normal(size=(11, 4, 2, 2)).astype(np.float32)
    found = prototypes.cluster(latents, 1, 4, prototypes.chunks(11, 4, rest))
    assert found.shape == (1, 4, 2, 2) and found.dtype == np.float32
    assert np.allclose(found[0], latents[: 11 if rest else 8].mean(0), atol=1e-6)


def test_separate_groups_get_a_centre_each_whatever_the_size_of_the_last_chunk():
    rng = np.random.default_rng(1)
    groups = np.arange(23) % 3
    latents = (100 * groups[:, None] + rng.normal(size=(23, 8))).astype(np.float32)
    found = prototypes.cluster(latents, 3, 7, prototypes.chunks(23, 21, rest=True))  # two latents are left over
    means = np.stack([latents[groups == group].mean(0) for group in range(3)])
    assert np.allclose(found[np.argsort(found[:, 0])], means, atol=1e-4)


def test_images_arrive_in_a_seeded_order(prepare):
    first, again, other = (prototypes.arrival_order(prepare(seed=seed)) for seed in (0, 0, 1))
    assert all(sorted(order) == list(range(12)) for order in first)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize(("ipc", "expand", "few"), [(1, 5, 10), (2, 5, 10), (5, 1, None)])
def test_the_released_code_fits_the_rest_of_one_class_only(prepare, ipc, expand, few):
    mine = prepare(ipc=ipc, km_expand=expand, leftover="last")
    counts = [prototypes.fitted(plan) for plan in prototypes.chunks_of_classes(mine, ipc)]
    last = mine.dataset.train.labels[mine.rng("d4m order").permutation(36)[-1]]
    # Two latents of each class are left over; fewer than the clusters are never fitted.
    assert counts == [12 if few and label == last else 10 for label in range(3)]
    sane = prototypes.chunks_of_classes(prepare(ipc=ipc, km_expand=expand), ipc)
    assert [prototypes.fitted(plan) for plan in sane] == [12] * 3


def test_small_classes_are_fitted_as_one_chunk_which_the_released_code_cannot(run):
    result, _ = run(km_expand=100)
    assert result.extra["clustered"] == [12, 12, 12]
    with pytest.raises(ddbench.UsageError, match="has 12 images, fewer than the 200 of one step") as found:
        run(km_expand=100, leftover="last")
    assert "leftover=fit" in found.value.hint


def test_more_prototypes_than_images_are_refused(prepare):
    with pytest.raises(ddbench.UsageError, match="has 12 images, fewer than its 13 prototypes"):
        prototypes.chunks_of_classes(prepare(ipc=13), 13)
    assert len(prototypes.chunks_of_classes(prepare(ipc=24, repeats=2), 24)) == 3


def test_the_set_holds_generated_images_under_the_names_of_the_classes(run):
    result, steps = run()
    assert result.images.shape == (6, 8, 8, 3)
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert result.prompts == tuple(name for name in NAMES for _ in range(2))
    assert list(steps) == ["latents", "prototypes", "synthesis"]
    assert result.extra["backbone"]["model"] == "tiny"
    json.dumps(result.extra, allow_nan=False)
    again, _ = run(home="another")
    assert np.array_equal(result.images, again.images)
    other, _ = run(seed=1)
    assert not np.array_equal(result.images, other.images)


def test_size_channels_and_prompts_can_be_chosen(run):
    result, _ = run(channels=1, size=12, template="a photo of {name}")
    assert result.images.shape == (6, 12, 12, 1)
    assert result.prompts[0] == "a photo of rows"
    with pytest.raises(ValueError, match="template"):
        run(template="a photo")


def test_there_are_as_many_centres_as_images_unless_each_gives_several(prepare, run):
    found = read_prototypes(prototypes.prototypes(prepare(ipc=4)))
    assert found.centres.shape == (12, 4, 8, 8) and len(np.unique(found.centres, axis=0)) == 12
    twice = read_prototypes(prototypes.prototypes(prepare(ipc=4, repeats=2)))
    assert len(np.unique(twice.centres, axis=0)) == 6
    assert np.array_equal(twice.centres[::2], twice.centres[1::2])
    result, _ = run(ipc=4, repeats=2)
    assert not np.array_equal(result.images[0], result.images[1])
    with pytest.raises(ddbench.UsageError, match="no multiple"):
        run(ipc=3, repeats=2)


def test_latents_are_shared_with_vlcp_and_by_all_ipcs(prepare, run):
    _, steps = run()
    _, more = run(ipc=3)
    assert {name for name in steps if steps[name] == more[name]} == {"latents"}
    mine = prepare(kind=VLCPOptions, finetune=False, text="label")
    VLCP().distill(mine)
    assert {entry["step"]: entry["key"] for entry in mine.ledger}["latents"] == steps["latents"]
    _, guided = run(guidance_scale=3)
    assert {name for name in steps if steps[name] != guided[name]} == {"synthesis"}


def test_without_noise_an_image_is_its_decoded_prototype(prepare, digits):
    mine = prepare(data=digits, backbone="small", ipc=1, strength=1e-6, guidance_scale=1, steps=50)
    result = D4M().distill(mine)
    model, found = base_model(mine), read_prototypes(prototypes.prototypes(mine))
    decoded = synthesis.grey(decode_latents(model.load(), found.centres))
    # The last scheduled step adds noise of standard deviation 0.03 and removes the predicted part.
    assert np.abs(result.images.astype(int) - decoded.astype(int)).mean() < 2
    noised = D4M().distill(prepare(data=digits, backbone="small", ipc=1))
    assert np.abs(noised.images.astype(int) - decoded.astype(int)).mean() > 10


def test_the_unet_runs_at_the_timesteps_that_strength_keeps(run, monkeypatch):
    seen = []
    load = Backbone.load

    def watched(self, dtype="fp32", **options):
        pipeline = load(self, dtype, **options)
        pipeline.unet.register_forward_pre_hook(lambda module, inputs: seen.append((int(inputs[1]), len(inputs[0]))))
        return pipeline

    monkeypatch.setattr(Backbone, "load", watched)
    run(ipc=1, steps=50)
    assert len(seen) == 36 and seen[0] == (701, 6)  # three prototypes, each with its prompt and the negative one


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_synthesis_goes_on_to_the_same_images(run, monkeypatch, after):
    monkeypatch.setattr(synthesis, "CHUNK", 2)
    whole, _ = run(home="whole", ipc=3)
    save, kept = synthesis.save_array, []

    def interrupted(path, array):
        if len(kept) == after:
            raise KeyboardInterrupt
        kept.append(path.name)
        save(path, array)

    monkeypatch.setattr(synthesis, "save_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(ipc=3)
    monkeypatch.setattr(synthesis, "save_array", save)
    resumed, _ = run(ipc=3)
    assert len(kept) == after
    assert np.array_equal(whole.images, resumed.images)


def test_a_model_trained_on_the_data_is_checked(run):
    small = {"backbone": "small", "small_vae_steps": 2, "small_unet_steps": 2}
    result, steps = run(**small, acceptance="small", acceptance_network="convnet-1-bn")
    assert "small-diffusion" in steps and result.extra["backbone"]["shipped"] is False
    larger, _ = run(**small, acceptance="small", acceptance_network="convnet-1-bn", size=16, channels=1)
    assert larger.images.shape == (6, 16, 16, 1) and larger.extra["acceptance"]["nearest"]["ratio"] > 0
    found = result.extra["acceptance"]
    assert found["recognition"]["count"] == 6 and set(found["prompt_swap"]) == {"moved", "stayed", "reverse"}


def test_the_safety_checker_blackens_what_it_flags(run, tmp_path):
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    with pytest.raises(ddbench.ModelError, match="without a safety checker"):
        run(safety_checker=True)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(vision_config={**sizes, "image_size": 16, "patch_size": 8}, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(-2)  # no cosine is below: everything is flagged
    folder = tiny_pipeline(tmp_path / "tiny")
    plain, _ = run(backbone=str(folder))
    StableDiffusionPipeline.from_pretrained(
        folder,
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        requires_safety_checker=True,
    ).save_pretrained(folder)
    ignored, steps = run(backbone=str(folder))
    flagged, other = run(backbone=str(folder), safety_checker=True)
    assert np.array_equal(plain.images, ignored.images) and plain.images.any()
    assert not flagged.images.any()
    assert steps["synthesis"] != other["synthesis"]


def test_what_tsne_shows(prepare):
    plain = D4M().embedding(prepare(), 1)
    assert plain.points.shape == (12, 4, 8, 8) and plain.centres.shape == (2, 4, 8, 8)
    assert plain.inliers.all() and set(plain.clusters) == {0, 1}
    counts = [D4M().embedding(prepare(ipc=1, km_expand=5, leftover="last"), label).inliers.sum() for label in range(3)]
    assert sorted(counts) == [10, 10, 12]


def options(dataset: str, preset: str) -> D4MOptions:
    return resolve(D4M, "method/d4m", {"dataset": dataset}, Preset.parse(preset), {}).values


def test_settings_of_the_released_code():
    paper = options("imagenet-1k", "paper")
    assert (paper.backbone, paper.resolution) == ("benjamin-paine/stable-diffusion-v1-5", 512)
    assert (paper.strength, paper.guidance_scale, paper.steps, paper.latent) == (0.7, 8, 50, "sample")
    assert (paper.negative_prompt, paper.template) == ("cartoon, anime, painting", "{name}")
    assert (paper.size, paper.leftover, paper.km_expand, paper.safety_checker) == (None, "fit", 10, False)
    released = options("imagenet-1k", "paper+official")
    assert (released.size, released.leftover, released.km_expand, released.safety_checker) == (224, "last", 1, True)
    assert options("cifar10", "paper+official").km_expand == 10
    small = options("cifar10", "official")
    assert (small.size, small.backbone, small.safety_checker) == (224, "small", False)
    assert small.guidance_scale == options("digits", "paper").guidance_scale == 8
    assert options("digits", "cpu").guidance_scale == 2


def test_what_is_shrunk_is_known():
    shrunk = {name for name, _, _ in resolve(D4M, "method/d4m", {"dataset": "cifar10"}, Preset(), {}).shrunk}
    assert shrunk == {"backbone", "resolution"}


def test_rules_and_options_explain_themselves():
    assert all(rule["source"] for rule in load_presets(D4M))
    assert all(field.description for field in D4MOptions.model_fields.values())
