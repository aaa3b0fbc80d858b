"""The conformance kit lets good plugins pass and names what is wrong with the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import Field
from toy_plugin import NearestMean, ToyData, ToyMethod

import ddbench
from ddbench.errors import PluginError, UsageError
from ddbench.runtime.scope import changed
from ddbench.testing.conformance import check_dataset, check_evaluator, check_method
from ddbench.testing.toy import toy_dataset


class Method(ToyMethod):
    class Options(ddbench.Options):
        noise: float = Field(0.0, description="strength")
        fail: bool = Field(False, description="fail")


class Mean(NearestMean):
    class Options(ddbench.Options):
        pixels: float = Field(1.0, description="share of the pixels")

    def evaluate(self, ctx, distilled, repeat):
        images, labels = ctx.dataset.arrays("test")
        scaled = distilled.images.astype(float)
        if distilled.space == "normalized":
            scaled = scaled * ctx.dataset.std + ctx.dataset.mean
        scaled = scaled * (1 if distilled.space == "rgb_uint8" else 255)
        means = np.stack([scaled[distilled.labels == c].mean(0).ravel() for c in range(ctx.dataset.num_classes)])
        noise = ctx.rng("student", repeat).normal(0, 1, (len(images), 1, 64)) * ctx.options.pixels
        distance = ((images.reshape(len(images), 1, -1) - means[None] + noise) ** 2).sum(2)
        correct = distance.argmin(1) == labels
        return ddbench.Score(last=float(correct.mean()), correct=correct)


def test_the_toy_data_set_is_the_same_each_time_and_passes():
    class Toy(ddbench.DatasetLoader):
        def load(self, ctx, argument):
            return toy_dataset(channels=3)

    data = check_dataset(ddbench.DatasetSpec("toy", Toy))
    assert data.channels == 3
    assert data.fingerprint == toy_dataset(channels=3).fingerprint != toy_dataset(channels=3, seed=1).fingerprint


def test_good_plugins_pass():
    assert len(check_method(Method, ipc=3).labels) == 9
    assert check_method(ddbench.MethodSpec("mine", Method), options={"noise": 3}).images.dtype == np.uint8
    assert check_evaluator(Mean).mean > 0.5
    assert check_dataset(ToyData).name == "toy"


def test_the_global_generators_are_left_alone():
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    check_method(Method)
    assert np.random.random() == expected


class Undescribed(Method):
    class Options(ddbench.Options):
        noise: float = 0.0
        fail: bool = False


class HiddenRandomness(Method):
    def distill(self, ctx):
        found = super().distill(ctx)
        return replace(found, images=np.random.randint(0, 255, found.images.shape).astype(np.uint8))


class Unseeded(Method):
    def distill(self, ctx):
        return super().distill(changed(ctx, base_seed=0))


class Cheat(Method):
    def distill(self, ctx):
        return super().distill(changed(ctx, _dataset=replace(ctx.dataset, train=ctx.dataset.test)))


class Unsorted(Method):
    def distill(self, ctx):
        found = super().distill(ctx)
        return replace(found, labels=found.labels[::-1].copy())


class BadPreset(Method):
    presets = ({"when": {"scale": "paper"}, "set": {"noises": 1}},)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Undescribed, "does not describe its option 'noise'"),
        (HiddenRandomness, "gives different sets for the same seed"),
        (Unseeded, "gives the same set for every seed"),
        (Cheat, "depends on the test images"),
        (Unsorted, "labels that are not in class order"),
        (BadPreset, "sets 'noises', which is not one of its options"),
    ],
)
def test_bad_methods_are_named(method, words):
    with pytest.raises(PluginError, match=words) as caught:
        check_method(method)
    assert method.__name__.lower() in str(caught.value)


class Blind(Mean):
    def protocol(self, ctx, distilled):
        return ddbench.Protocol({"network": ctx.network, "label_type": "hard", "selection": "last"})


class Silent(Mean):
    def protocol(self, ctx, distilled):
        return ddbench.Protocol({"pixels": ctx.options.pixels})


class Global(Mean):
    def evaluate(self, ctx, distilled, repeat):
        correct = np.random.random(len(ctx.dataset.test)) < 0.5
        return ddbench.Score(last=float(correct.mean()), correct=correct)


class Unwhite(Mean):
    whitens = True

    def evaluate(self, ctx, distilled, repeat):
        if distilled.space == "zca":
            distilled = replace(distilled, images=-distilled.images)
        return super().evaluate(ctx, distilled, repeat)


@pytest.mark.parametrize(
    ("evaluator", "words"),
    [
        (Blind, "has a protocol that does not show its option 'pixels'"),
        (Silent, "has a protocol without network, label_type, selection"),
        (Global, "gives different numbers for the same seed"),
        (Unwhite, "reads pixel space 'zca' wrongly"),
        (type("Deaf", (NearestMean,), {"Options": Mean.Options}), "reads pixel space 'unit' wrongly"),
    ],
)
def test_bad_evaluators_are_named(evaluator, words):
    with pytest.raises(PluginError, match=words) as caught:
        check_evaluator(evaluator)
    assert evaluator.__name__.lower() in str(caught.value)


def test_an_option_without_effect_can_be_declared():
    check_evaluator(Blind, unused=("pixels",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d, n: replace(d, fingerprint=f"{n}"), "another fingerprint each time"),
        (lambda d, n: replace(d, name="other"), "calls itself 'other'"),
        (
            lambda d, n: replace(d, train=replace(d.train, ids=("x",) * len(d.train))),
            "train split has ids that are not distinct",
        ),
        (lambda d, n: replace(d, mean=(127.0,)), "They are of pixels scaled"),
        (lambda d, n: replace(d, std=(0.0,)), "std above zero"),
        (lambda d, n: replace(d, origin="files of /home/me/data"), "names a folder of this machine"),
    ],
)
def test_bad_data_sets_are_named(change, words):
    class Toy(ddbench.DatasetLoader):
        calls = 0

        def load(self, ctx, argument):
            type(self).calls += 1
            return change(toy_dataset(), self.calls)

    with pytest.raises(PluginError) as caught:
        check_dataset(ddbench.DatasetSpec("toy", Toy))
    assert words in f"{caught.value} {caught.value.hint}"


def test_a_spec_of_another_kind_is_refused():
    with pytest.raises(UsageError, match="is not a MethodSpec"):
        check_method(ddbench.DatasetSpec("toy", ToyData))
