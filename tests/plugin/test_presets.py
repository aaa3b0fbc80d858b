"""Presets that do not fit, and the experiment that a preset stands for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.errors import PluginError, UsageError
from ddbench.experiment import cells
from ddbench.plugin.manager import load_plugin
from ddbench.plugin.options import Options, Preset, resolve


class _Options(Options):
    steps: int = 20


class _Plugin:
    Options = _Options
    presets = (
        {"when": {"scale": "paper"}, "fits": {"dataset": ["woof", "nette"], "ipc": [1, 10]}},
        {"when": {"scale": "paper"}, "fits": {"dataset": "cifar"}},
        {"when": {"scale": "paper"}, "run": {"seed": [0, 1, 2]}, "source": "Table 1"},
        {"when": {"scale": "paper", "dataset": "woof"}, "run": {"eval": "minimax", "repeats": 3}, "source": "Table 2"},
    )


@pytest.mark.parametrize(
    "situation", [{"dataset": "woof", "ipc": 10}, {"dataset": "cifar", "ipc": 7}, {"dataset": "woof"}, {"ipc": 1}, {}]
)
def test_a_preset_fits_where_one_of_its_rules_holds_as_far_as_is_known(situation):
    assert resolve(_Plugin, "mine", situation, Preset("paper"), {}).values == _Options()


@pytest.mark.parametrize("situation", [{"dataset": "digits", "ipc": 10}, {"dataset": "woof", "ipc": 50}])
def test_one_that_does_not_is_refused_with_those_that_do(situation):
    with pytest.raises(UsageError, match=r"paper\+sane of mine does not fit dataset") as error:
        resolve(_Plugin, "mine", situation, Preset("paper"), {})
    assert "Presets that fit: cpu+sane, cpu+official." in error.value.hint
    assert "dataset woof or nette, ipc 1 or 10, or dataset cifar" in error.value.hint
    resolve(_Plugin, "mine", situation, Preset(), {})


def test_the_experiment_has_sources():
    found = resolve(_Plugin, "mine", {"dataset": "woof"}, Preset("paper"), {}).experiment
    assert found == {"seed": ([0, 1, 2], "Table 1"), "eval": ("minimax", "Table 2"), "repeats": (3, "Table 2")}
    assert resolve(_Plugin, "mine", {"dataset": "woof"}, Preset(), {}).experiment == {}


def test_an_experiment_of_unknown_words_is_the_plugins_mistake():
    class Broken(_Plugin):
        presets = ({"run": {"seeds": [0]}},)

    with pytest.raises(PluginError, match="`run` knows eval, network, seed, repeats, not 'seeds'"):
        resolve(Broken, "broken", {}, Preset(), {})


#: Zou et al. 2025, supplement: Table 1, then Tables 4 to 7 (contamination, β, k, guidance, strength, image size,
#: evaluator and networks).
TABLE_1 = {
    "finetune": True,
    "finetune_batch_size": 8,
    "finetune_accumulate": 1,
    "finetune_epochs": 8,
    "finetune_learning_rate": 1e-5,
    "finetune_weight_decay": 0.01,
    "finetune_clip_norm": 1.0,
    "finetune_flip": True,
}
THREE, ONE, SOFT = ("convnet-6", "resnet-ap-10", "resnet-18"), ("resnet-ap-10",), ("modified-resnet-18",)
TABLES = {
    "imagewoof": (0.0, 0.7, 256, "minimax", THREE, 512, 10, 224),
    "imagenette": (0.01, 0.7, 256, "minimax", ONE, 512, 10, 224),
    "imagenet-100": (0.1, 0.7, 256, "minimax", THREE, 512, 100, 224),
    "imageidc": (0.1, 0.7, 256, "minimax", ONE, 512, 10, 224),
    "imagenet-1k": (0.0, 0.7, 224, "rded", SOFT, 512, 1000, 224),
    "cifar10": (0.0, 0.8, 32, "rded", SOFT, 32, 10, 32),
    "cifar100": (0.0, 0.2, 32, "rded", SOFT, 32, 100, 32),
    "tiny-imagenet": (0.0, 0.7, 64, "rded", SOFT, 64, 200, 64),
}
#: Epochs and batch size of IPC 10 under each evaluator, and lr (evaluators.md §6 and §11.3-4).
STUDENTS = {
    "imagewoof": (2000, 64, 0.01),
    "imagenette": (2000, 64, 0.01),
    "imagenet-100": (1300, 64, 0.01),
    "imageidc": (2000, 64, 0.01),
    "imagenet-1k": (300, 100, 0.001),
    "cifar10": (300, 50, 0.001),
    "cifar100": (300, 100, 0.001),
    "tiny-imagenet": (300, 100, 0.001),
}


def _like(name: str, classes: int, side: int) -> ddbench.Dataset:
    """A data set of that name, number of classes and size, whose images nobody reads."""

    class Unread(ddbench.ImageSource):
        channels = 3

        def __len__(self) -> int:
            return 10 * classes

        def load(self, index, size):
            raise AssertionError("read")

    labels = np.repeat(np.arange(classes), 10)
    ids = tuple(map(str, range(len(labels))))
    split = ddbench.Split(Unread(), labels, ids)
    names = tuple(f"c{i}" for i in range(classes))
    return ddbench.Dataset(name, names, names, side, (0.5,) * 3, (0.2,) * 3, split, split, "f", "made up")


def _planned(ctx, name: str, preset: str = "paper", evaluators=(), method: str = "vlcp", **more):
    *_, classes, side = TABLES[name]
    ctx = replace(ctx, _dataset=_like(name, classes, side), preset=Preset.parse(preset))
    axes = {"budgets": [10], "networks": [], "seeds": [], "evaluation_seed": 0, "repeats": None, **more}
    return cells.resolve(ctx, [method], evaluators, **axes)


@pytest.fixture
def unbuilt(monkeypatch):
    monkeypatch.setattr("ddbench.experiment.cells.check_network", lambda ctx: None)


@pytest.mark.usefixtures("unbuilt")
@pytest.mark.parametrize("name", TABLES)
def test_paper_is_the_papers_experiment(ctx, name):
    contamination, beta, size, evaluator, networks, side, _, _ = TABLES[name]
    planned = _planned(ctx, name)
    assert [one.method.ctx.base_seed for one in planned] == [0, 1, 2]
    for one in planned:
        found = one.method.ctx.options
        assert {key: getattr(found, key) for key in TABLE_1} == TABLE_1
        assert found.gradient_checkpointing is None  # on by the size of Stable Diffusion's U-Net
        assert found.finetune_resolution == side and found.resolution == 512
        assert (found.contamination, found.beta, found.top_k) == (contamination, beta, 30)
        assert (found.guidance_scale, found.strength, found.size) == (10, 0.7, size)
        assert found.negative_prompt == "cartoon, anime, painting" and found.steps == 50
        assert [m.evaluator.entry.name for m in one.measurements] == [evaluator] * len(networks)
        assert tuple(m.evaluator.ctx.network for m in one.measurements) == networks
        assert {m.repeats for m in one.measurements} == {3 if evaluator == "minimax" else 1}
        assert all(one.method.ctx.resolved.sources[key].startswith("Zou et al. 2025") for key in TABLE_1)


@pytest.mark.usefixtures("unbuilt")
@pytest.mark.parametrize("name", TABLES)
def test_students_of_the_papers_experiment(ctx, name):
    from ddbench_plugins.evaluators import rded

    for measured in (m.evaluator for m in _planned(ctx, name)[0].measurements):
        options = measured.ctx.options
        if measured.entry.name == "minimax":
            found = measured.plugin.recipe(measured.ctx, None)
            assert (found.epochs, found.batch_size, found.lr) == STUDENTS[name]
            assert (found.weight_decay, found.cutmix, found.imagenet) == (5e-4, 1.0, True)
        else:
            size = rded.batch_size(options.batch_size, 10, measured.ctx.dataset.num_classes)
            assert (options.epochs, size, options.lr) == STUDENTS[name]
            assert options.factor == (2 if name == "imagenet-1k" else 1) and options.temperature == 20


@pytest.mark.usefixtures("unbuilt")
def test_released_scripts_train_longer(ctx):
    (one, *_) = _planned(ctx, "tiny-imagenet", "paper+official")
    found = one.measurements[0].evaluator.ctx
    assert (found.options.epochs, found.options.factor) == (500, 2)
    assert found.resolved.sources["epochs"].startswith("VLCP 04_evaluation")
    assert _planned(ctx, "cifar10", "paper+official")[0].measurements[0].evaluator.ctx.options.factor == 1
    (other, *_) = _planned(ctx, "tiny-imagenet", "paper+official", ["rded"], "random")
    theirs = other.measurements[0].evaluator.ctx.options
    assert (theirs.epochs, theirs.factor) == (300, 1)


@pytest.mark.usefixtures("unbuilt")
def test_what_the_command_says_wins(ctx):
    (one,) = _planned(ctx, "imagewoof", evaluators=["minimax"], networks=["convnet-6"], seeds=[7], repeats=2)
    assert one.method.ctx.base_seed == 7
    assert [(m.evaluator.ctx.network, m.repeats) for m in one.measurements] == [("convnet-6", 2)]
    (one, *_) = _planned(ctx, "imagewoof", evaluators=["rded"])
    networks = [m.evaluator.ctx.network for m in one.measurements]
    assert networks == ["modified-resnet-18"]  # those of the preset are minimax's


@pytest.mark.usefixtures("unbuilt")
def test_an_evaluator_must_come_from_somewhere(ctx):
    with pytest.raises(UsageError, match="No evaluator is named, and the preset paper\\+sane of random"):
        _planned(ctx, "imagewoof", method="random")


def test_every_rule_of_every_plugin_names_its_source(ctx):
    from ddbench.plugin.presets import load_presets

    for kind in ("method", "evaluator", "dataset", "captioner"):
        for name, entry in ctx.plugins.entries[kind].items():
            plugin = load_plugin(entry)
            lacking = [rule for rule in load_presets(plugin) if not rule.get("source")]
            assert not lacking, name
