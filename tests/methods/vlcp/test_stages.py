"""VLCP's stages, each by itself: what is clustered, whose captions are chosen from, and how the model is fine-tuned."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from ddbench_plugins.diffusion import finetune
from ddbench_plugins.diffusion.backbone import Backbone
from ddbench_plugins.diffusion.captions import caption_training_images
from ddbench_plugins.diffusion.class_latents import class_latents, latents_of
from ddbench_plugins.diffusion.synthesis import read_prototypes
from ddbench_plugins.methods.vlcp import stages
from ddbench_plugins.methods.vlcp.information import bag_of_words
from ddbench_plugins.methods.vlcp.options import VLCPOptions
from ddbench_plugins.methods.vlcp.prototypes import cluster, inliers
from ddbench_plugins.methods.vlcp.text import tokens

import ddbench
from ddbench.keys import derive_seed
from ddbench.plugin.options import Resolved
from ddbench.testing.diffusion import tiny_pipeline
from ddbench.testing.toy import toy_dataset


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("diffusion") / "tiny")


@pytest.fixture
def prepare(ctx, model):
    """Return a context with options of VLCP."""

    def resolved(flip=True, **options):
        return replace(
            ctx,
            machine=ddbench.Machine("cpu", "fp32", offline=True),
            ipc=3,
            ledger=[],
            resolved=Resolved(VLCPOptions(backbone=str(model), **options)),
            _dataset=replace(toy_dataset(channels=3), flip=flip),
        )

    return resolved


def test_prototypes_are_of_each_class_without_its_outliers_and_its_own_captions(prepare):
    """The stage by other means: scikit-learn's outliers and clusters of one class, and words counted here."""
    from sklearn.cluster import KMeans
    from sklearn.neighbors import LocalOutlierFactor

    ctx = prepare(contamination=0.25, neighbours=3, beta=2.0, top_k=1, stop_words="none")
    data, captions, latents = ctx.dataset, caption_training_images(ctx, "attributes"), class_latents(ctx)
    done = stages.prototypes(ctx)
    found = read_prototypes(done)
    assert found.centres.shape == (9, 4, 8, 8) and found.counts == (9, 9, 9)
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sorted(path.name for path in done.dir.iterdir()) == ["centres.npy", "prototypes.json", "step.json"]
    kept = [entry["inliers"] for entry in json.loads((done.dir / "prototypes.json").read_text())]
    for label, name in enumerate(data.class_names):
        flat = latents_of(latents, label).reshape(12, -1)
        stays = LocalOutlierFactor(n_neighbors=3, contamination=0.25).fit_predict(flat) == 1
        rows = np.flatnonzero(data.train.labels == label)[stays]
        assert kept[label] == rows.tolist()
        seed = derive_seed(ctx.seed("vlcp clusters"), label)
        fitted = KMeans(3, n_init=10, random_state=seed).fit(flat[stays])
        np.testing.assert_allclose(
            found.centres[3 * label : 3 * label + 3].reshape(3, -1), fitted.cluster_centers_, rtol=0, atol=1e-5
        )
        for number in range(3):
            mine = [captions.texts[row] for row in rows[fitted.labels_ == number]]
            words = [word for text in mine for word in tokens(text)]
            telling = [word for word in dict.fromkeys(words) if word != name]
            most = max(telling, key=words.count)  # the first of those that are as frequent
            first = next(text for text in mine if most in tokens(text))
            assert found.prompts[3 * label + number] == first


def test_without_captions_the_prompt_is_the_classs_name(prepare):
    found = read_prototypes(stages.prototypes(replace(prepare(text="label"), ipc=2)))
    assert found.prompts == ("rows", "rows", "columns", "columns", "checks", "checks")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("contamination", 0.1), ("neighbours", 4), ("beta", 0.2), ("top_k", 1)),
        *(("matching", "substring"), ("stop_words", "none")),
    ],
)
def test_each_option_of_the_prototypes_is_in_their_key(prepare, option, value):
    assert stages.prototypes.of(prepare(**{option: value})).key != stages.prototypes.of(prepare()).key


@pytest.fixture
def asked(monkeypatch):
    """Stand in for the training, and return what it was asked for."""
    found = {}

    def stand_in(pipeline, images, captions, out_dir, settings, **options):
        found.update(images=images, captions=captions, settings=settings, **options)
        return {**asdict(settings), "steps": 1, "loss": 0.5}

    monkeypatch.setattr(finetune, "finetune", stand_in)
    return found


def _finetuned(ctx):
    return caption_training_images(ctx, "attributes"), stages.finetuned_model(ctx)


def test_fine_tuning_is_told_every_option(prepare, asked):
    told = {
        "epochs": 3,
        "batch_size": 5,
        "accumulate": 2,
        "learning_rate": 0.002,
        "weight_decay": 0.3,
        "clip_norm": 0.4,
        "ema_decay": 0.5,
        "flip": True,
        "resolution": 24,
    }
    switches = {"gradient_checkpointing": True, "cache_latents": False}
    ctx = prepare(**{f"finetune_{name}": value for name, value in told.items()}, **switches)
    captions, tuned = _finetuned(ctx)
    assert asdict(asked["settings"]) == told | switches
    assert list(asked["captions"]) == list(captions.texts) and len(asked["images"]) == 36
    assert asked["seed"] == ctx.seed("vlcp finetune")
    loop = asked["loop"]
    assert (loop.device, loop.precision, loop.checkpoint_seconds) == ("cpu", "fp32", ctx.checkpoint_seconds)
    assert asked["team"].count == 1
    assert tuned.about["finetuned"] == {"steps": 1, "loss": 0.5} and tuned.about["model"] == "tiny"


def test_the_papers_values_are_the_defaults_and_the_rest_goes_by_size(prepare, asked):
    _finetuned(prepare())
    assert asdict(asked["settings"]) == {
        **{"resolution": 16, "epochs": 8, "batch_size": 32, "accumulate": 1, "learning_rate": 1e-4},
        **{"weight_decay": 0.01, "clip_norm": 1.0, "ema_decay": 0.9999, "flip": True},
        **{"gradient_checkpointing": False, "cache_latents": True},
    }


def test_images_that_must_not_be_mirrored_are_not(prepare, asked):
    _finetuned(prepare(flip=False))
    assert not asked["settings"].flip
    _finetuned(prepare(finetune_flip=False))
    assert not asked["settings"].flip


def test_posteriors_of_less_than_two_gigabytes_are_kept(prepare):
    ctx = prepare()
    # Mean and deviation, plain and mirrored, of 4 channels in float32 at an eighth of the side.
    assert stages._latent_bytes(ctx, 512) == 36 * (2 * 2) * 4 * 64 * 64 * 4


@pytest.mark.parametrize(("size", "kept"), [(2**31 - 1, True), (2**31, False)])
def test_posteriors_are_kept_below_two_gigabytes_only(prepare, asked, monkeypatch, size, kept):
    monkeypatch.setattr(stages, "_latent_bytes", lambda ctx, resolution: size)
    _finetuned(prepare())
    assert asked["settings"].cache_latents is kept
    _finetuned(prepare(cache_latents=not kept))
    assert asked["settings"].cache_latents is not kept


@pytest.mark.parametrize(("weights", "saving"), [(100_000_000, False), (100_000_001, True)])
def test_activations_of_large_models_are_computed_twice(prepare, asked, monkeypatch, weights, saving):
    monkeypatch.setattr(Backbone, "parameters", lambda base: weights)
    _finetuned(prepare())
    assert asked["settings"].gradient_checkpointing is saving
    _finetuned(prepare(gradient_checkpointing=not saving))
    assert asked["settings"].gradient_checkpointing is not saving


def test_captions_are_one_file_with_what_their_time_grows_with(prepare, monkeypatch):
    """Pieces of an unfinished run are gone, and the step tells for whom it can be a measure."""
    from ddbench_plugins.captioners.attributes import Attributes

    caption = Attributes.caption

    def with_piece(self, ctx, *more):
        (ctx.checkpoint.dir / "metadata.partial-00000000.jsonl").write_text("")
        return caption(self, ctx, *more)

    monkeypatch.setattr(Attributes, "caption", with_piece)
    ctx = prepare()
    captions = caption_training_images(ctx, "attributes")
    assert sorted(path.name for path in captions.done.dir.iterdir()) == ["metadata.jsonl", "step.json"]
    assert captions.captioner == "attributes" and len(captions.texts) == 36
    names = [ctx.dataset.class_names[label] for label in ctx.dataset.train.labels]
    assert all(text.startswith(f"The {name} in") for text, name in zip(captions.texts, names, strict=True))
    told = json.loads((captions.done.dir / "step.json").read_text())["effort"]
    assert told["amount"] == 36


def test_kmeans_takes_the_best_of_ten_starts(monkeypatch):
    import sklearn.cluster

    asked = {}

    class Told(sklearn.cluster.KMeans):
        def __init__(self, **options):
            asked.update(options)
            super().__init__(**options)

    monkeypatch.setattr(sklearn.cluster, "KMeans", Told)
    cluster(np.random.default_rng(0).standard_normal((9, 4, 1, 1)).astype(np.float32), 2, 7, "x")
    assert asked == {"n_clusters": 2, "n_init": 10, "random_state": 7}


def test_three_images_are_enough_for_an_outlier():
    latents = np.array([0, 0.1, 9], np.float32).reshape(3, 1, 1, 1)
    assert len(inliers(latents, 0.4, 10)) == 2
    assert inliers(latents[:2], 0.4, 10).tolist() == [0, 1]


def test_every_fifth_caption_of_a_class_is_held_out():
    labels = np.repeat([0, 1, 2], [10, 5, 20])
    told = bag_of_words([("red", "green", "blue")[label] for label in labels], labels, ("a", "b", "c"))
    assert (told["held_out"], told["train"]) == (2 + 1 + 4, 28)
    alone = bag_of_words(["red", "green", "blue", "grey"], np.arange(4), ("a", "b", "c", "d"))
    assert (alone["held_out"], alone["train"]) == (4, 0)
    assert told["accuracy"] == 1 and told["chance"] == pytest.approx(1 / 3) and told["words"] == 3


def test_captions_that_tell_nothing_are_answered_with_the_larger_class():
    labels = np.repeat([0, 1], [30, 10])
    assert bag_of_words(["grass"] * 40, labels, ("a", "b"))["accuracy"] == pytest.approx(0.75)
    alone = bag_of_words(["grass"] * 10, labels[:10], ("a",))
    assert alone == {"accuracy": 1.0, "chance": 1.0, "train": 8, "held_out": 2, "words": 1}


def test_swapped_prompts_are_those_of_the_next_cluster_of_the_class(prepare):
    own, swapped = (read_prototypes(stages.prototypes(prepare(text=text))) for text in ("prototype", "swapped"))
    assert swapped.prompts == tuple(
        own.prompts[label * 3 + (number + 1) % 3] for label in range(3) for number in range(3)
    )
    assert np.array_equal(own.centres, swapped.centres) and len(set(own.prompts)) > 3
    with pytest.raises(ddbench.UsageError, match="IPC 1"):
        stages.prototypes(replace(prepare(text="swapped"), ipc=1))


def test_shuffled_captions_stay_in_their_class_and_move(prepare):
    ctx = prepare(text="shuffled")
    own, dealt = caption_training_images(ctx, "attributes").texts, stages.training_texts(ctx)
    labels = ctx.dataset.train.labels
    for label in range(3):
        rows = np.flatnonzero(labels == label)
        assert sorted(dealt[row] for row in rows) == sorted(own[row] for row in rows)
        assert [dealt[row] for row in rows] != [own[row] for row in rows]
    assert list(stages.training_texts(prepare())) == list(own)
    other = replace(ctx, base_seed=1)
    assert stages.training_texts(other) != dealt


def test_controls_train_what_they_must_and_nothing_else(prepare):
    def keys(text):
        ctx = prepare(text=text)
        return stages.finetuned.of(ctx).key, stages.prototypes.of(ctx).key

    found = {text: keys(text) for text in ("prototype", "label", "swapped", "shuffled")}
    assert len({model for model, _ in found.values()}) == 2 and len({prompts for _, prompts in found.values()}) == 4
    assert found["prototype"][0] == found["swapped"][0] == found["label"][0]
