"""DD and SLDD (Wang et al. 2018, train_distilled_image.py; Sucholutsky and Schonlau 2021), and their replays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import distil, evaluate, prepare_evaluator, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.methods.dd.steps import OrderedImages, Plan, shifted  # noqa: E402
from ddbench_plugins.training.replay import cross_entropy  # noqa: E402

TOY = toy_dataset(channels=3)
QUICK = {"iterations": "2", "network": "mlp", "batch_real": "9", "batches": "1"}


def _prepared(ctx, name="dd", data=TOY, ipc=2, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, name, ipc, 0)


def _replayed(ctx, data, made, repeats=2):
    return evaluate(prepare_evaluator(replace(ctx, _dataset=data), "replay", "", made.ipc), made, repeats=repeats)


def test_a_set_holds_its_batches_once_and_a_size_for_every_step(ctx):
    made = distil(_prepared(ctx, ipc=4, **(QUICK | {"batches": "2", "iterations": "3", "lr_img": "0.5"}))).content
    assert made.schedule.batches == ((0, 1, 4, 5, 8, 9), (2, 3, 6, 7, 10, 11))
    assert [batch for batch, _ in made.schedule.steps] == [0, 1, 0, 1, 0, 1]
    assert len({rate for _, rate in made.schedule.steps}) == 6
    assert made.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (made.space, made.soft_labels, made.schedule.seed) == ("normalized", None, None)


def test_step_sizes_begin_as_said_and_stay_above_zero():
    plan = Plan(((0,),), 2, 0.02, "mlp", None)
    images = OrderedImages(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.long), torch.ones(1, 1), plan, 0.01)
    assert images.rates.tolist() == pytest.approx([0.02, 0.02])
    with torch.no_grad():
        images.sizes.fill_(-20)
    assert float(images.rates.detach().min()) > 0


def test_labels_that_are_not_learned_give_what_dd_gives(ctx):
    plain = distil(_prepared(ctx, **QUICK)).content
    soft = distil(_prepared(ctx, "sldd", **QUICK, learn_labels="false")).content
    assert (plain.images == soft.images).all()
    assert plain.schedule == soft.schedule
    learned = distil(_prepared(ctx, "sldd", **QUICK)).content
    assert learned.label_kind == "free" and not (learned.soft_labels == np.eye(3)[learned.labels]).all()


def test_the_size_of_a_label_weights_its_image():
    logits, target = torch.randn(1, 4, requires_grad=True), torch.tensor([[0.2, 1.4, -0.3, 0.1]])
    one, three = (torch.autograd.grad(cross_entropy(logits, scale * target), logits)[0] for scale in (1, 3))
    assert torch.allclose(3 * one, three)


def test_fewer_images_than_classes(ctx):
    made = distil(_prepared(ctx, "sldd", ipc=1, **QUICK, classes="[2, 0]"))
    assert made.content.labels.tolist() == [0, 2]
    assert (made.content.counted, made.content.soft_labels.shape) == ("numbers", (2, 3))
    assert 0 <= _replayed(ctx, TOY, made).result.last[0] <= 1
    for wrong in ("[0, 3]", "[1, 1]"):
        with pytest.raises(ddbench.UsageError, match="Images cannot begin as the classes"):
            distil(_prepared(ctx, "sldd", ipc=1, **QUICK, classes=wrong))


def test_labels_by_softmax_are_probabilities_and_frozen_pixels_stay(ctx):
    made = distil(_prepared(ctx, "sldd", **QUICK, label_softmax="true", freeze_data="true")).content
    begun = distil(_prepared(ctx, "sldd", **QUICK, label_init="zeros", freeze_data="true")).content
    assert made.label_kind == "probabilities" and made.soft_labels.sum(1) == pytest.approx(1)
    assert (made.images == begun.images).all()


@pytest.mark.parametrize("init", ["uniform", "normal", "smoothed"])
def test_labels_begin_as_asked_for(ctx, init):
    made = distil(_prepared(ctx, "sldd", **QUICK, label_init=init)).content
    assert np.isfinite(made.soft_labels).all()


def test_digits_are_learned_in_three_steps_from_the_same_weights_and_hardly_by_ordinary_training(ctx, digits):
    options = {"iterations": "80", "batch_real": "200", "lr_img": "0.05", "lr_net": "0.05", "network": "mlp"}
    made = distil(_prepared(ctx, "dd", digits, 1, initial="fixed", **options))
    record = _replayed(ctx, digits, made)
    assert record.result.last[0] > 0.6
    assert record.result.last[0] == record.result.last[1]
    assert record.protocol.settings["initial_weights"] == "those of the distillation"
    assert record.cell.network == "none"
    training = replace(ctx, _dataset=digits, explicit={"evaluator": {"epochs": "20"}})
    ordinary = evaluate(prepare_evaluator(training, "dc", "mlp", 1), made, repeats=1)
    assert ordinary.result.last[0] < record.result.last[0]


def test_steps_after_which_no_network_is_left_are_refused(ctx):
    made = distil(_prepared(ctx, **QUICK))
    schedule = made.content.schedule
    wild = replace(schedule, steps=tuple((batch, 1e30) for batch, _ in schedule.steps))
    with pytest.raises(ddbench.DivergedError, match="NaN or infinite after the steps"):
        _replayed(ctx, TOY, replace(made, content=replace(made.content, schedule=wild)))


def test_new_weights_every_time(ctx):
    made = distil(_prepared(ctx, **QUICK))
    record = _replayed(ctx, TOY, made, 3)
    assert record.protocol.settings["initial_weights"] == "new"
    assert record.protocol.settings["replayed"] == "mlp"
    assert made.content.schedule.seed is None


NETWORK = """from ddbench import NetworkSpec, hookimpl
def build(*, in_channels, image_size, num_classes):
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes), nn.Identity())
@hookimpl
def ddbench_networks():
    return [NetworkSpec("flat", build, "a layer")]
"""


def test_a_set_is_replayed_again_when_its_network_was_changed(tmp_path):
    file = tmp_path / "flat.py"
    file.write_text(NETWORK)
    options = {"method": {"network": "flat", "iterations": 1, "batch_real": 9}}
    (made,) = ddbench.distill("dd", ipc=1, options=options, plugins=[file], out=tmp_path)
    found = []
    for name, layer in (("one", "Identity()"), ("two", "Threshold(1e9, 0)")):  # which lets nothing pass
        file.write_text(NETWORK.replace("Identity()", layer))
        where = {"plugins": [file], "registry": tmp_path / name}
        found += ddbench.evaluate(made.path, "replay", repeats=1, **where)
    assert found[0].result.values != found[1].result.values
    with pytest.raises(ddbench.UsageError, match="Unknown network 'flat'"):
        ddbench.evaluate(made.path, "replay", repeats=1, registry=tmp_path / "three")


def test_a_set_without_steps_is_no_replay(ctx):
    with pytest.raises(ddbench.UsageError, match="have no ordered steps"):
        _replayed(ctx, TOY, distil(_prepared(ctx, "random")))


def test_resumed_runs_end_with_the_same_set(ctx, tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "0")
    from ddbench_plugins.methods.dd.steps import Distillation

    from ddbench.runtime.store import Store

    options = QUICK | {"iterations": "4", "shuffle_steps": "true", "augment": "true"}
    whole = distil(_prepared(replace(ctx, store=Store(tmp_path / "one")), "sldd", **options)).digest
    killed, original = _prepared(replace(ctx, store=Store(tmp_path / "two")), "sldd", **options), Distillation.step

    def step(self, number):
        if number == 2:
            raise KeyboardInterrupt
        return original(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "step", step)
        with pytest.raises(KeyboardInterrupt):
            distil(killed)
    assert distil(killed).digest == whole


def _few(classes, channels=3):
    images = np.random.default_rng(0).integers(0, 255, (classes, 8, 8, channels), np.uint8)
    split = ddbench.Split(ddbench.ArrayImages(images), np.arange(classes), tuple(map(str, range(classes))))
    names = tuple(f"class {label}" for label in range(classes))
    data = replace(
        TOY, class_names=names, class_ids=names, train=split, test=split, fingerprint=f"{classes}, {channels}"
    )
    return replace(data, mean=(0.5,) * channels, std=(0.25,) * channels)


@pytest.mark.parametrize("name", ["dd", "sldd"])
@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (1, 1), (100, 3)])
def test_one_class_one_image_grey_images_and_a_hundred_classes(ctx, name, classes, channels):
    data = _few(classes, channels)
    made = distil(_prepared(ctx, name, data, 1, **QUICK))
    assert made.content.images.shape == (classes, 8, 8, channels)
    assert _replayed(ctx, data, made, 1).result.last[0] <= 1


def test_mistakes_are_named(ctx):
    with pytest.raises(ddbench.DivergedError, match=r"not finite|NaN"):
        distil(_prepared(ctx, **(QUICK | {"lr_img": "1e38", "iterations": "4"})))
    with pytest.raises(ddbench.UsageError, match="cannot be divided into 3 batches"):
        distil(_prepared(ctx, **(QUICK | {"batches": "3"})))


def test_shifts_mirror_the_border():
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(50, 1, 8, 8)
    out = shifted(x, torch.Generator().manual_seed(0), mirrored=False)
    assert set(out.unique().tolist()) <= set(range(64))
    assert len({tuple(image.flatten().tolist()) for image in out}) > 20


def test_settings_by_preset(ctx):
    paper = _prepared(ctx, preset="paper")[1].options
    assert (paper.iterations, paper.passes, paper.lr_net, paper.lr_img) == (23_600, 3, 0.02, 0.01)
    assert (paper.decay, paper.decay_every, paper.batch_real) == (0.5, 2360, 1024)
    cifar = _prepared(ctx, data=replace(TOY, name="cifar10"), preset="paper+official")[1]
    assert (cifar.options.network, cifar.options.augment, cifar.options.decay_early) == ("alexnet-cifar", True, 49)
    assert cifar.resolved.experiment["eval"][0] == "replay"
    for data, early, rate, count in (("fashion-mnist", 59, 0.01, 20_650), ("cifar100", 49, 0.001, 17_150)):
        mine = _prepared(ctx, "sldd", data=replace(TOY, name=data), preset="paper+official")[1].options
        assert (mine.initial, mine.lr_net, mine.iterations, mine.decay_every) == ("fixed", rate, count, count // 10)
        assert mine.decay_early == early
    assert _prepared(ctx, "sldd")[1].options.initial == "random"


@pytest.mark.parametrize("name", ["dd", "sldd"])
def test_they_conform(ctx, name):
    options = {"iterations": 2, "network": "mlp", "batch_real": 9}
    check_method(ctx.plugins.get("method", name).spec, options=options)
