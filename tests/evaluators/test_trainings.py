"""What each evaluator states in its protocol is what its students are trained with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ddbench_plugins.evaluators.dc.datm import DatmOptions
from ddbench_plugins.evaluators.dc.evaluator import DcOptions
from ddbench_plugins.evaluators.fkd.evaluator import FkdOptions
from ddbench_plugins.evaluators.idc import IdcOptions
from ddbench_plugins.evaluators.lrs import evaluator as lrs
from ddbench_plugins.evaluators.lrs import reference as real_reference
from ddbench_plugins.evaluators.lrs.evaluator import LrsOptions
from ddbench_plugins.evaluators.minimax import MinimaxOptions
from ddbench_plugins.evaluators.rded import RdedOptions
from ddbench_plugins.methods.vlcp.options import VLCPOptions
from ddbench_plugins.teachers import observers
from ddbench_plugins.training import steps, students

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.options import Preset, Resolved
from ddbench.testing.toy import toy_dataset

OPTIONS: dict[str, type[ddbench.Options]] = {
    "dc": DcOptions,
    "datm": DatmOptions,
    "fkd": FkdOptions,
    "idc": IdcOptions,
    "lrs": LrsOptions,
    "minimax": MinimaxOptions,
    "rded": RdedOptions,
    "vlcp": VLCPOptions,
}


class Teacher:
    """Stands for a trained network."""

    digest = "0"

    def __init__(self, ctx: Any, network: str, *asked: Any, **more: Any) -> None:
        self.network = network

    def module(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))

    def describe(self) -> dict[str, Any]:
        return {"network": self.network}


@pytest.fixture
def asked(ctx, monkeypatch):
    """Return a function: what an evaluator asks of the training of a student, and its protocol."""
    monkeypatch.setattr(observers, "get_teacher", Teacher)

    def call(evaluator, network="convnet-1-bn", preset="", ipc=4, learning_rate=None, flip=True, **options):
        found = {}

        def stand_in(ctx, network, **told):
            found.update(told, network=network)
            return ddbench.Score(last=0.5, correct=np.array([True, False]))

        monkeypatch.setattr(students, "train_student", stand_in)
        data = replace(toy_dataset(), flip=flip)
        mine = replace(ctx, _dataset=data, explicit={"evaluator": options}, preset=Preset.parse(preset))
        made, mine, _ = prepare_evaluator(mine, evaluator, network, ipc)
        images, labels = data.arrays("train")
        distilled = ddbench.DistilledSet(images[:4], labels[:4], learning_rate=learning_rate)
        found["score"] = made.evaluate(mine, distilled, 1)
        assert found["seed"] == mine.seed("student", 1)
        assert (found["mean"], found["std"]) == (data.mean, data.std)
        return found, made.protocol(mine, distilled).settings

    return call


def _optimiser(found) -> dict[str, Any]:
    made = found["optimiser"](found["network"])
    groups = made.param_groups
    momentum = groups[0].get("momentum")
    (rate,) = {group["lr"] for group in groups}
    return {
        "kind": type(made).__name__,
        "lr": rate,
        "decays": sorted({group["weight_decay"] for group in groups}),
        **({} if momentum is None else {"momentum": momentum}),
    }


@pytest.mark.parametrize(
    ("evaluator", "options", "expected"),
    [
        ("dc", {}, {"kind": "SGD", "lr": 0.01, "decays": [5e-4], "momentum": 0.9}),
        ("idc", {}, {"kind": "SGD", "lr": 0.01, "decays": [5e-4], "momentum": 0.9}),
        ("minimax", {}, {"kind": "SGD", "lr": 0.01, "decays": [5e-4], "momentum": 0.9}),
        ("rded", {}, {"kind": "AdamW", "lr": 0.001, "decays": [0.0, 0.01]}),
        ("fkd", {"labels": "online"}, {"kind": "AdamW", "lr": 0.001, "decays": [0.01]}),
        (
            "fkd",
            {"labels": "online", "optimiser": "sgd", "momentum": 0.8},
            {"kind": "SGD", "lr": 0.001, "decays": [0.01], "momentum": 0.8},
        ),
    ],
)
def test_students_are_trained_as_the_protocol_says(asked, evaluator, options, expected):
    found, told = asked(evaluator, **options)
    assert _optimiser(found) == expected
    assert (told["lr"], told["weight_decay"]) == (expected["lr"], expected["decays"][-1])
    assert (found["epochs"], found["batch_size"]) == (told["epochs"], told["batch_size"])
    assert found["test_epochs"] == [told["epochs"] - 1]
    # And by other values, wherever they come from.
    other = {"epochs": 33, "batch_size": 2, "lr": 0.5, "weight_decay": 0.25}
    found, told = asked(evaluator, **options | other)
    assert _optimiser(found) == {**expected, "lr": 0.5, "decays": [*expected["decays"][:-1], 0.25]}
    assert {name: told[name] for name in other} == other
    assert (found["epochs"], found["batch_size"]) == (33, 2)
    assert told["network"] == "convnet-1-bn" and told["image_size"] == 8


@pytest.mark.parametrize(
    ("evaluator", "options", "rates"),
    [
        # After 16 + 2 epochs; at two thirds and five sixths; half a cosine to one half; the same.
        ("dc", {}, {0: 1, 17: 1, 18: 0.1, 32: 0.1}),
        ("idc", {}, {0: 1, 21: 1, 22: 0.2, 26: 0.2, 27: 0.04}),
        ("minimax", {}, {0: 1, 21: 1, 22: 0.2, 26: 0.2, 27: 0.04}),
        ("rded", {}, {0: 1, 16.5: 0.5 + 0.5 * 0.5**0.5, 33: 0.5}),
        ("fkd", {"labels": "online"}, {0: 1, 16.5: 0.5 + 0.5 * 0.5**0.5, 33: 0.5}),
        ("fkd", {"labels": "online", "schedule": "cosine"}, {0: 1, 16.5: 0.5, 33: 0}),
    ],
)
def test_learning_rates_follow_the_schedule_of_the_run(asked, evaluator, options, rates):
    found, _ = asked(evaluator, epochs=33, **options)
    assert {epoch: found["schedule"](epoch) for epoch in rates} == pytest.approx(rates)


def test_dc_states_where_its_rate_drops_and_forgets_the_momentum_there_on_request(asked):
    found, told = asked("dc", network="convnet-1", augment="plain")
    assert told["schedule"] == "×0.1 after 152 epochs" and found["restart_optimiser_at"] == []
    assert told["optimiser"] == "SGD, momentum 0.9"
    found, told = asked("dc", network="convnet-1", augment="plain", preset="official")
    assert found["restart_optimiser_at"] == [152] and (found["epochs"], found["test_epochs"]) == (301, [300])
    assert told["optimiser"] == "SGD, momentum 0.9, made anew at the drop"


def test_dc_trains_with_the_learned_rate_and_says_which(asked):
    found, _ = asked("dc", learning_rate=0.03)
    assert _optimiser(found)["lr"] == 0.03 and found["score"].metrics["learning_rate"] == 0.03
    found, _ = asked("dc", learning_rate=0.03, lr=0.02)
    assert _optimiser(found)["lr"] == 0.02 and "learning_rate" not in found["score"].metrics


def test_rded_asks_its_teacher_at_its_temperature(asked, monkeypatch):
    told = {}
    monkeypatch.setattr(steps, "soft_label_step", lambda teacher, **how: told.update(how))
    monkeypatch.setattr(steps, "update_batchnorm_twice", lambda network: told.update(twice=True))
    asked("rded")
    assert told == {"temperature": 20.0}
    asked("rded", temperature=7, update_batchnorm_twice=True)
    assert told == {"temperature": 7.0, "twice": True}


def test_rded_states_its_augmentations_and_the_size_of_its_tests(asked):
    _, told = asked("rded", factor=2)
    assert told["augmentation"] == ["patch shuffle 2", "random resized crop (1/2, 1)", "flip", "cutmix 1.0"]
    assert told["test_resize"] == 8 // 7 * 8
    assert "flip" not in asked("rded", flip=False)[1]["augmentation"]


def test_dc_without_augmentation_normalises_only(asked):
    found, _ = asked("dc", augment="plain")
    data, x = toy_dataset(), torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(found["augment"](x, torch.Generator()), (x - data.mean[0]) / data.std[0])


@pytest.mark.parametrize("evaluator", ["dc", "datm", "fkd", "idc", "minimax", "rded"])
def test_the_whole_set_has_the_reference_networks_protocol(ctx, monkeypatch, evaluator):
    told = {"network": "convnet-1-bn", "label_type": "hard"}
    monkeypatch.setattr(observers, "reference", lambda ctx, network, *more: {**told, "network": network})
    mine = replace(ctx, _dataset=toy_dataset())
    made, mine, _ = prepare_evaluator(mine, evaluator, "convnet-1-bn", None)
    whole = ddbench.DistilledSet(*mine.dataset.arrays("train"), whole=True)
    assert made.protocol(mine, whole).settings == told


def test_what_each_evaluator_trains_with(ctx):
    found = {name: ctx.plugins.get("evaluator", name).spec.label_type for name in OPTIONS if name != "vlcp"}
    assert found == {
        **{"dc": "hard", "datm": "", "fkd": "soft", "idc": "hard", "lrs": "", "minimax": "hard", "rded": "soft"},
    }


# DD-Ranking -----------------------------------------------------------------------------------------------------------


def _lrs(ctx, monkeypatch, mirrored=True, whole=False, **options):
    """Return DD-Ranking's protocol, and the training that the whole training set is asked for."""
    found = {}

    def reference(ctx, source, like, **how):
        found.update(source=source, like=like, **how)
        return 0.9, {"network": "the reference"}

    monkeypatch.setattr(observers, "get_teacher", Teacher)
    monkeypatch.setattr(observers, "reference", lambda ctx, network, normalisation: {"network": network})
    monkeypatch.setattr(real_reference, "real_reference", reference)
    mine = replace(ctx, _dataset=replace(toy_dataset(), flip=mirrored), explicit={"evaluator": options})
    made, mine, _ = prepare_evaluator(mine, "lrs", "convnet-1", 4)
    images, labels = mine.dataset.arrays("train")
    soft = None if whole else np.full((4, 3), 1 / 3, np.float32)
    chosen = (images, labels) if whole else (images[:4], labels[:4])
    return made.protocol(mine, ddbench.DistilledSet(*chosen, soft_labels=soft, whole=whole)).settings, found


def test_lrs_states_what_depends_on_the_data_and_the_teachers(ctx, monkeypatch):
    told, _ = _lrs(ctx, monkeypatch)
    assert "teacher" not in told and told["label_type"] == "hard"
    flips = [
        _lrs(ctx, monkeypatch, mirrored, flip=flip)[0]["flip"] for mirrored in (True, False) for flip in (True, False)
    ]
    assert flips == [True, False, False, False]
    assert (told["network"], told["image_size"]) == ("convnet-1", 8)
    assert told["real"] == {"source": "reference", "network": {"network": "the reference"}}
    assert _lrs(ctx, monkeypatch, labels="soft")[0]["teacher"] == {"network": "convnet-1"}
    two = _lrs(ctx, monkeypatch, labels="soft", teachers=["convnet-1", "mlp"])[0]["teacher"]
    assert two == {"network": "convnet-1, mlp", "members": [{"network": "convnet-1"}, {"network": "mlp"}]}
    assert _lrs(ctx, monkeypatch, whole=True)[0] == {"network": "convnet-1"}


@pytest.mark.parametrize(
    ("options", "augmentation"),
    [
        ({}, "none"),
        ({"labels": "soft"}, "none"),
        ({"augment_hard": True}, "none"),
        ({"labels": "soft", "augment_hard": True}, "mixup"),
    ],
)
def test_lrs_augments_the_reference_only_where_hard_labels_of_soft_ones_are(ctx, monkeypatch, options, augmentation):
    _, found = _lrs(ctx, monkeypatch, augmentation="mixup", **options)
    assert found["like"].augmentation == augmentation


@pytest.mark.parametrize(
    ("options", "every"),
    [
        ({}, 0),
        ({"selection": "best_test"}, 10),
        ({"selection": "best_test", "labels": "soft"}, 20),
    ],
)
def test_lrs_tests_every_ten_epochs_or_twenty_with_soft_labels(ctx, monkeypatch, options, every):
    assert _lrs(ctx, monkeypatch, **options)[1]["like"].test_every == every


@pytest.mark.parametrize(
    "options",
    [{"loss": "mse_gt"}, {"loss": "kl", "soft_label_mode": "S"}, {"loss": "sce", "soft_label_mode": "S"}],
)
def test_lrs_takes_labels_of_either_origin(ctx, monkeypatch, options):
    told, _ = _lrs(ctx, monkeypatch, labels="soft", **options)
    assert told["loss"] == options["loss"]


def test_lrs_takes_a_set_without_soft_labels_where_a_teacher_labels(ctx):
    for more in ({}, {"teacher_file": "a.safetensors", "teachers": ("mlp",)}):
        lrs.Lrs().check(replace(ctx, resolved=Resolved(LrsOptions(labels="soft", **more))), ())


@pytest.mark.parametrize(
    ("scale", "side", "network"),
    [
        *(("cpu", side, "convnet-3") for side in (8, 64, 224)),
        *(("paper", side, "convnet-3") for side in (16, 32)),
        *(("paper", side, "convnet-4") for side in (33, 64)),
        *(("paper", side, "modified-resnet-18") for side in (65, 224)),
    ],
)
def test_lrs_has_a_network_for_each_size(scale, side, network):
    assert lrs.Lrs().network_for(replace(toy_dataset(), image_size=side), scale) == network


# Options --------------------------------------------------------------------------------------------------------------

#: Evaluator → option → (values allowed, values refused) at each bound.
BOUNDS: dict[str, dict[str, tuple[list[float], list[float]]]] = {
    "dc": {
        "epochs": ([1], [0]),
        "batch_size": ([1], [0]),
        "lr": ([1e-9], [0]),
        "weight_decay": ([0], [-1e-9]),
    },
    "idc": {
        "epochs": ([1], [0]),
        "batch_size": ([1], [0]),
        "lr": ([1e-9], [0]),
        "weight_decay": ([0], [-1e-9]),
        "cutmix": ([0, 1], [-1e-9, 1.01]),
        "factor": ([1], [0]),
    },
    "minimax": {
        "epochs": ([1], [0]),
        "batch_size": ([1], [0]),
        "lr": ([1e-9], [0]),
        "weight_decay": ([0], [-1e-9]),
        "cutmix": ([0, 1], [-1e-9, 1.01]),
    },
    "rded": {
        "epochs": ([1], [0]),
        "batch_size": ([1], [0]),
        "lr": ([1e-9], [0]),
        "weight_decay": ([0], [-1e-9]),
        "temperature": ([1e-9], [0]),
        "factor": ([1], [0]),
    },
    "fkd": {
        "top_k": ([1], [0]),
        "epochs": ([1], [0]),
        "batch_size": ([1], [0]),
        "accumulation": ([1], [0]),
        "lr": ([1e-9], [0]),
        "momentum": ([0, 0.999], [-1e-9, 1]),
        "weight_decay": ([0], [-1e-9]),
        "temperature": ([1e-9], [0]),
        "mixup_alpha": ([1e-9], [0]),
        "crop_scale": ([1e-9, 1], [0, 1.01]),
        "padding": ([1], [0]),
        "test_every": ([1], [0]),
    },
    "lrs": {
        "temperature": ([1e-9], [0]),
        "mse_weight": ([0], [-1e-9]),
        "ce_weight": ([0], [-1e-9]),
        "mixup_alpha": ([1e-9], [0]),
        "crop_padding": ([0], [-1]),
        "crop_scale": ([1e-9, 1], [0, 1.01]),
        "patch_shuffle": ([1], [0]),
        "epochs": ([1], [0]),
        "batch_size": ([1], [0]),
        "weight_decay": ([0], [-1e-9]),
        "lr": ([1e-9], [0]),
        "step_size": ([1], [0]),
        "test_resize": ([1], [0]),
        "lrs_lambda": ([0, 1], [-1e-9, 1.01]),
        "ars_lambda": ([0, 1], [-1e-9, 1.01]),
    },
    "vlcp": {
        "finetune_resolution": ([8], [7]),
        "finetune_epochs": ([1], [0]),
        "finetune_batch_size": ([1], [0]),
        "finetune_accumulate": ([1], [0]),
        "finetune_learning_rate": ([1e-9], [0]),
        "finetune_weight_decay": ([0], [-1e-9]),
        "finetune_clip_norm": ([1e-9], [0]),
        "finetune_ema_decay": ([0, 1], [-1e-9, 1.01]),
        "contamination": ([0, 0.5], [-1e-9, 0.51]),
        "neighbours": ([1], [0]),
        "beta": ([1e-9, 1.5], [0]),
        "top_k": ([1], [0]),
    },
}
#: Evaluator → every default that is a number or a switch, as the protocols and papers have it.
DEFAULTS: dict[str, dict[str, Any]] = {
    "dc": {
        **{"epochs": None, "batch_size": 256, "lr": None, "weight_decay": 5e-4},
        **{"extra_epoch": False, "reset_optimiser": False, "decode": None},
    },
    "datm": {
        **{"epochs": None, "batch_size": 128, "lr": None, "weight_decay": 5e-4},
        **{"extra_epoch": False, "reset_optimiser": False, "decode": None},
    },
    "idc": {
        **{"epochs": None, "batch_size": None, "lr": None, "weight_decay": None, "cutmix": None, "cutout": None},
        **{"factor": None, "bound": False},
    },
    "minimax": {"epochs": None, "batch_size": None, "lr": None, "weight_decay": None, "cutmix": None},
    "rded": {
        **{"epochs": 300, "batch_size": None, "lr": 0.001, "weight_decay": 0.01, "temperature": 20.0, "factor": 1},
        **{"update_batchnorm_twice": False},
    },
    "fkd": {
        **{"top_k": None, "epochs": 400, "batch_size": 256, "accumulation": 1, "lr": 0.001, "momentum": 0.9},
        **{"weight_decay": 0.01, "temperature": 30.0, "scale_by_t2": False, "mixup_alpha": 0.8, "crop_scale": 0.08},
        **{"padding": 4, "test_resize": False, "test_every": 20},
    },
    "lrs": {
        **{"temperature": 20.0, "scale_by_t2": False, "mse_weight": 1.0, "ce_weight": 0.025, "mixup_alpha": 0.8},
        **{"mix_hard_labels": True, "augment_hard": False, "crop_padding": 0, "crop_scale": 1.0, "patch_shuffle": 1},
        **{"flip": False, "epochs": 1000, "batch_size": 256, "weight_decay": 5e-4, "lr": None, "learned_lr": True},
        **{"step_size": None, "test_resize": None, "lrs_lambda": 0.5, "ars": True, "ars_lambda": 0.5},
    },
    "vlcp": {
        **{"finetune": True, "finetune_resolution": None, "finetune_epochs": 8, "finetune_batch_size": 32},
        **{"finetune_accumulate": 1, "finetune_learning_rate": 1e-4, "finetune_weight_decay": 0.01},
        **{"finetune_clip_norm": 1.0, "finetune_ema_decay": 0.9999, "finetune_flip": True},
        **{"gradient_checkpointing": None, "cache_latents": None, "contamination": 0.0, "neighbours": 10},
        **{"beta": 0.7, "top_k": 30, "pad_prompts": True, "strength": 0.7, "guidance_scale": 10.0, "steps": 50},
        **{"revision": None, "small_vae": None, "small_vae_side": None, "small_vae_steps": None},
        **{"small_unet_steps": None, "small_prediction": None, "batch_size": None, "size": None},
        **{"resolution": None, "acceptance_images": 100},
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults(name):
    found = OPTIONS[name]().model_dump()
    assert {option: value for option, value in found.items() if not isinstance(value, str | tuple)} == DEFAULTS[name]


@pytest.mark.parametrize(
    ("name", "option", "value", "allowed"),
    [
        (name, option, value, allowed)
        for name, options in BOUNDS.items()
        for option, sides in options.items()
        for values, allowed in zip(sides, (True, False), strict=True)
        for value in values
    ],
)
def test_bounds_of_options(name, option, value, allowed):
    if allowed:
        assert getattr(OPTIONS[name](**{option: value}), option) == value
    else:
        with pytest.raises(ValueError, match=option):
            OPTIONS[name](**{option: value})
