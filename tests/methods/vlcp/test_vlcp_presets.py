"""VLCP's settings at the paper's scale are those of its tables."""

from __future__ import annotations

import pytest
from ddbench_plugins.methods.vlcp.distiller import VLCP

from ddbench.plugin.options import Preset, load_presets, resolve


def options(dataset: str, preset: str):
    return resolve(VLCP, "method/vlcp", {"dataset": dataset}, Preset.parse(preset), {}).values


@pytest.mark.parametrize(
    ("dataset", "contamination", "beta", "size", "resolution"),
    [
        ("imagewoof", 0.0, 0.7, 256, 512),
        ("imagenette", 0.01, 0.7, 256, 512),
        ("imagenet-100", 0.1, 0.7, 256, 512),
        ("imageidc", 0.1, 0.7, 256, 512),
        ("imagenet-1k", 0.0, 0.7, 224, 512),
        ("cifar10", 0.0, 0.8, 32, 32),
        ("cifar100", 0.0, 0.2, 32, 32),
        ("tiny-imagenet", 0.0, 0.7, 64, 64),
    ],
)
def test_tables_of_the_supplement(dataset, contamination, beta, size, resolution):
    found = options(dataset, "paper")
    assert (found.contamination, found.beta, found.size) == (contamination, beta, size)
    assert (found.finetune_resolution, found.resolution) == (resolution, 512)
    assert (found.top_k, found.strength, found.guidance_scale, found.steps) == (30, 0.7, 10, 50)
    assert (found.finetune_epochs, found.finetune_batch_size, found.finetune_accumulate) == (8, 8, 1)
    assert (found.finetune_learning_rate, found.finetune_weight_decay) == (1e-5, 0.01)
    assert (found.backbone, found.captioner) == ("benjamin-paine/stable-diffusion-v1-5", "llava")
    assert (found.matching, found.pad_prompts) == ("word", True)


def test_the_released_code_differs():
    assert options("imagenette", "paper+official").contamination == 0.1
    assert options("cifar10", "paper+official").beta == 0.3
    found = options("imagewoof", "paper+official")
    assert (found.finetune_batch_size, found.finetune_accumulate) == (32, 4)
    assert (found.matching, found.pad_prompts) == ("substring", False)
    assert options("digits", "official").matching == "substring"
    assert options("digits", "official").backbone == "small"


def test_large_data_sets_are_seen_less_often_on_a_cpu():
    assert options("digits", "cpu").finetune_epochs == 8
    assert options("cifar10", "cpu").finetune_epochs == 1


def test_the_digits_need_less_guidance():
    assert options("digits", "cpu").guidance_scale == 2
    assert options("cifar10", "cpu").guidance_scale == options("cifar100", "paper").guidance_scale == 10


def test_every_rule_names_its_source():
    assert all(rule["source"] for rule in load_presets(VLCP))


def test_every_option_is_described():
    assert all(field.description for field in VLCP.Options.model_fields.values())


def test_what_is_shrunk_is_known():
    shrunk = {name for name, _, _ in resolve(VLCP, "method/vlcp", {"dataset": "cifar10"}, Preset(), {}).shrunk}
    assert {"backbone", "captioner", "resolution", "finetune_learning_rate"} <= shrunk
    assert not shrunk & {"strength", "steps", "top_k", "batch_size"}
