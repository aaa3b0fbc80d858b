"""IDC: multi-formation, the class steps, the network's training, resumption (Kim et al. 2022)."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import artifact, distil, prepare_evaluator, prepare_method
from ddbench.keys import digest
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.draws import fresh_networks  # noqa: E402
from ddbench_plugins.matching.images import RealImages  # noqa: E402
from ddbench_plugins.methods.idc.distiller import IDC, IDCOne, base_size  # noqa: E402
from ddbench_plugins.methods.idc.images import FormedImages, initial_images  # noqa: E402
from ddbench_plugins.methods.idc.matching import ClassMatching, Matching  # noqa: E402
from ddbench_plugins.training.formation import decode, decode_class, stitch, tiles  # noqa: E402

QUICK = {"network": "convnet-1", "iterations": 2, "inner": 3, "batch_real": 4, "train_images": 8, "lr_img": 0.5}


# Multi-formation ----------------------------------------------------------------------------------------------------


def test_factor_one_is_the_identity():
    x = torch.rand(3, 3, 8, 8)
    assert tiles(x, 1) is x
    for formation in ("single", "multi", "bound"):
        assert torch.equal(decode_class(x, 1, formation, 128), x)


@pytest.mark.parametrize(("size", "factor"), [(8, 2), (9, 2), (8, 3), (16, 4)])
def test_a_factor_gives_its_square_of_images_of_the_same_size(size, factor):
    x = torch.rand(5, 3, size, size)
    found = decode_class(x, factor, "single", 128)
    assert found.shape == (5 * factor**2, 3, size, size)
    images, labels = decode(x, torch.zeros(5, dtype=torch.int64), factor)
    assert torch.equal(images, found) and len(labels) == len(found)
    assert len(decode_class(x, factor, "multi", 128)) == 5 * sum(each**2 for each in range(1, factor + 1))


@pytest.mark.parametrize("count", [1, 14, 20, 50, 128])
@pytest.mark.parametrize("factor", [2, 3])
def test_bound_uses_every_image_once_and_stays_within_128(count, factor):
    x = torch.arange(count, dtype=torch.float64).view(-1, 1, 1, 1).expand(count, 1, 6, 6)
    found = decode_class(x, factor, "bound", 128)
    assert len(found) <= 128
    assert set(found[:, 0, 0, 0].tolist()) == set(range(count))
    assert found[0, 0, 0, 0] == 0


@pytest.mark.parametrize(
    ("count", "factor", "factors"),
    [(1, 3, [3]), (20, 3, [3] * 12 + [2] * 3 + [1] * 5), (50, 2, [2] * 19 + [1] * 31), (128, 3, [1] * 128)],
)
def test_bound_gives_as_many_images_the_full_factor_as_the_released_code(count, factor, factors):
    x = torch.arange(count, dtype=torch.float64).view(-1, 1, 1, 1).expand(count, 1, 6, 6)
    found = decode_class(x, factor, "bound", 128)[:, 0, 0, 0].long()
    assert found.bincount().tolist() == [each**2 for each in factors]


def test_stitched_images_decode_to_themselves_where_they_are_plain():
    parts = torch.rand(8, 3, 1, 1).expand(8, 3, 8, 8)
    assert torch.allclose(decode_class(stitch(parts, 2, 8), 2, "single", 128), parts)


# Beginning ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    return RealImages(toy_dataset(channels=3))


def _pixels(data, places):
    return torch.from_numpy(data.train.images.batch(list(places), data.image_size)).permute(0, 3, 1, 2) / 255


def test_images_begin_as_training_images_of_their_class(real):
    data = toy_dataset(channels=3)
    for first in (True, False):
        found = initial_images(real, 2, "real", 1, seed=3, first=first)
        assert found.shape == (6, 3, 8, 8)
        for number, image in enumerate(found):
            members = data.train.of_class(number // 2)
            distance = (_pixels(data, members) - image).abs().amax((1, 2, 3))
            assert distance.min() < 1e-5
            if first:
                assert int(distance.argmin()) == number % 2
    drawn = initial_images(real, 2, "real", 1, seed=3, first=False)
    assert not torch.equal(drawn, initial_images(real, 2, "real", 1, seed=4, first=False))


def test_mixed_and_noisy_beginnings(real):
    data = toy_dataset(channels=3)
    mixed = initial_images(real, 1, "mix", 2, seed=0, first=True)
    four = _pixels(data, data.train.of_class(1)[:4])
    torch.testing.assert_close(mixed[1], stitch(four, 2, 8)[0], atol=1e-5, rtol=0)
    noise = initial_images(real, 40, "noise", 1, seed=0, first=False)
    assert noise.min() == 0 and noise.max() == 1
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.01)


# The loop -----------------------------------------------------------------------------------------------------------

SETTINGS = Matching(
    inner=2,
    batch_real=5,
    train_images=12,
    early_epochs=0,
    cutmix=0.5,
    lr_net=0.01,
    weight_decay=5e-4,
    match="gradients",
    metric="mse",
    biases=False,
    classifier=False,
    strategy=("color", "crop", "cutout"),
    train_strategy=("color", "crop"),
    step_per_class=True,
    precision="fp32",
    seed=1,
)


def _work(ctx, real, images=None, factor=2, lr=1.0, **settings):
    ctx = replace(ctx, _dataset=toy_dataset(channels=3))
    if images is None:
        images = initial_images(real, 2, "mix", factor, seed=0, first=False)
    formed = FormedImages(images, len(images) // 3, lr, factor=factor, formation="single", clamp_final=True)
    return ClassMatching(formed, real, fresh_networks(ctx, "convnet-1"), replace(SETTINGS, **settings))


def test_only_gradients_of_convolutions_are_matched_unless_told_otherwise(ctx, real):
    work = _work(ctx, real)
    network, _ = work._fresh(0)
    assert {p.ndim for p in work._matched(network)} == {4}
    everything = _work(ctx, real, biases=True, classifier=True)
    assert len(everything._matched(network)) == len(list(network.parameters()))


def test_what_cannot_be_matched_is_refused(ctx, real):
    work = _work(ctx, real)
    with pytest.raises(ddbench.UsageError, match="no convolutions"):
        work._matched(torch.nn.Linear(4, 3))
    with pytest.raises(ddbench.UsageError, match="match=features compares vectors"):
        _prepared(ctx, toy_dataset(channels=3), match="features", metric="rows")


@pytest.mark.parametrize("match", ["gradients", "features"])
def test_the_same_images_on_both_sides_have_no_distance(ctx, real, match):
    images = torch.cat([real.at(real.members(label)[:5]) for label in range(3)])
    column = [torch.tensor(values).view(1, -1, 1, 1) for values in (real.std, real.mean)]
    work = _work(ctx, real, images * column[0] + column[1], factor=1, match=match)
    work._begin(0)
    for label in range(3):
        name, _, *drawn = work._draw(label, 0)
        mine, others = (real.members(each)[:5] for each in (label, (label + 1) % 3))
        assert float(work._class_loss(name, mine, *drawn).detach()) < 1e-9
        assert float(work._class_loss(name, others, *drawn).detach()) > 1e-6


def test_a_step_after_one_class_moves_the_others_by_their_momentum(ctx, real):
    work = _work(ctx, real)
    work._begin(0)
    moved = []
    step = work.images.optimiser.step

    def spy():
        before = work.images.images.detach().clone()
        step()
        moved.append((work.images.images.detach() - before).abs().amax((1, 2, 3)).view(3, 2).amax(1) > 0)

    work.images.optimiser.step = spy
    work._match(0)
    assert [each.tolist() for each in moved] == [[True, False, False], [True, True, False], [True, True, True]]
    moved.clear()
    once = _work(ctx, real, step_per_class=False)
    once._begin(0)
    step, once.images.optimiser.step, work = once.images.optimiser.step, spy, once
    once._match(0)
    assert [each.tolist() for each in moved] == [[True, True, True]]


def test_real_batches_pass_through_the_class_before_any_image_comes_again(ctx, real):
    work = _work(ctx, real)
    count = len(real.members(1)) // 5
    asked = [work.real_batch(1, number).tolist() for number in range(3 * count)]
    for turn in range(3):
        seen = [place for batch in asked[turn * count : (turn + 1) * count] for place in batch]
        assert len(set(seen)) == len(seen) == 5 * count
        assert set(seen) <= set(real.members(1).tolist())
    assert asked[0] != asked[count]


def test_the_network_is_trained_on_real_images_and_replaced(ctx, real):
    work = _work(ctx, real)
    work.step(0)
    first = work.network
    assert not torch.equal(first.classifier.weight, work.networks(0).classifier.weight)
    work.step(1)
    assert work.network is first
    work.step(2)
    assert work.network is not first
    idle = _work(ctx, real, train_images=0)
    idle.step(0)
    assert torch.equal(idle.network.classifier.weight, idle.networks(0).classifier.weight)
    ahead = _work(ctx, real, early_epochs=1)
    ahead._begin(0)
    assert not torch.equal(ahead.network.classifier.weight, ahead.networks(0).classifier.weight)


def test_training_stops_after_the_batch_that_fills_the_count(ctx, real):
    work = _work(ctx, real)
    assert [len(batch) for *_, batch in work._batches(12, torch.Generator())] == [5, 5, 5]
    assert sum(len(batch) for *_, batch in work._batches(10**6, torch.Generator())) == len(work.labels)
    assert not [*work._batches(0, torch.Generator())]


def test_pixels_are_clamped_when_a_network_begins_and_at_the_end_if_asked_for(ctx, real):
    work = _work(ctx, real, images=torch.full((6, 3, 8, 8), 1.5), factor=1)
    assert work.images.distilled().images.max() == 1
    assert float(work.images.images.detach().max()) == 1.5  # what is being optimised stays as it is
    work.images.clamp_final = False
    assert work.images.distilled().images.max() == 1.5
    work._begin(0)
    assert float(work.images.images.detach().max()) == 1


def test_the_loss_falls(ctx, real):
    work = _work(ctx, real, lr=0.3, inner=1000, train_images=0, strategy=(), batch_real=10**6)
    losses = [work.step(number) for number in range(25)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_resumed_loop_ends_with_the_same_images(ctx, real, killed_after):
    whole = _work(ctx, real)
    for number in range(4):
        whole.step(number)
    first = _work(ctx, real)
    for number in range(killed_after):
        first.step(number)
    state = copy.deepcopy(first.state())
    second = _work(ctx, real)
    second.restore(state)
    for number in range(killed_after, 4):
        second.step(number)
    assert torch.equal(second.images.images, whole.images.images)


# The methods --------------------------------------------------------------------------------------------------------


def _prepared(ctx, data, name="idc", preset="", ipc=2, seed=0, **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, name, ipc, seed)


@pytest.mark.parametrize(("name", "factor"), [("idc-1", 1), ("idc", 2), ("idc", 3)])
def test_sets_say_their_factor_and_the_evaluator_decodes_by_it(ctx, name, factor):
    data = toy_dataset(channels=3)
    made = distil(_prepared(ctx, data, name, **QUICK, **({"factor": 3} if factor == 3 else {})))
    assert made.content.space == "unit"
    assert made.content.extra["factor"] == factor
    assert made.content.images.shape == (6, 8, 8, 3)
    evaluator, mine, _ = prepare_evaluator(replace(ctx, _dataset=data), "idc", "convnet-1", 2)
    assert evaluator.recipe(mine, made.content).factor == factor
    assert "formation" not in evaluator.protocol(mine, made.content).settings  # it is the method's


@pytest.mark.parametrize("method", [IDC, IDCOne])
def test_it_keeps_the_contract(method):
    check_method(method, options=QUICK)


def test_a_factor_larger_than_the_image_is_refused(ctx):
    with pytest.raises(ddbench.UsageError, match="cannot hold 9 images"):
        distil(_prepared(ctx, toy_dataset(channels=3), factor=9))


@pytest.mark.parametrize(
    ("name", "ipc", "lr"), [("cifar10", 1, 5e-4), ("cifar10", 10, 5e-3), ("cifar10", 50, 2.5e-2), ("mnist", 10, 1e-4)]
)
def test_the_learning_rate_follows_budget_and_size(ctx, digits, name, ipc, lr):
    data = replace(digits, name=name, image_size=28 if name == "mnist" else 32)
    _, mine, _ = _prepared(ctx, data, "idc-1", "paper", ipc=ipc)
    images = IDCOne().images(mine, RealImages(data))
    assert images.optimiser.param_groups[0]["lr"] == pytest.approx(lr)


def test_settings_of_the_released_code(ctx, digits):
    def options(name, method="idc", preset="paper", size=32, ipc=10):
        return _prepared(ctx, replace(digits, name=name, image_size=size), method, preset, ipc=ipc)[1].options

    cifar = options("cifar10")
    assert (cifar.iterations, cifar.inner, cifar.metric, cifar.train_images, cifar.init) == (
        2000,
        100,
        "mse",
        2000,
        "mix",
    )
    assert options("cifar10", "idc-1").init == "real"
    grey = options("fashion-mnist", size=28)
    assert (grey.metric, grey.lr_img, grey.train_images) == ("l1", 1e-4, 500)
    large = options("imagenette", size=224)
    assert (large.network, large.iterations, large.metric, large.early_epochs) == ("resnet-ap-10", 500, "l1", 10)
    assert options("imagenet-100", size=224, ipc=20).formation == "bound"
    official = options("cifar100", preset="paper+official")
    assert (official.init_first, official.clamp_final, official.normalisation) == (True, False, "cifar10")
    assert (cifar.init_first, cifar.clamp_final) == (False, True)
    small = replace(digits, name="fashion-mnist", image_size=28)
    assert [base_size(d) for d in (small, replace(small, name="mnist"), replace(small, image_size=224))] == [
        32,
        28,
        224,
    ]


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("digits", {}, (("color", "crop", "cutout"), ("color", "crop"), 0.5)),
        ("digits", {"cutmix": 0.0}, (("color", "crop", "cutout"), ("color", "crop", "cutout"), 0.0)),
        ("mnist", {}, (("color", "crop"), ("color", "crop"), 0.5)),
        ("mnist", {"factor": 1}, (("color", "crop", "cutout"), ("color", "crop"), 0.5)),
    ],
)
def test_augmentations_of_matching_and_training(ctx, digits, name, options, wanted):
    method, mine, _ = _prepared(ctx, replace(digits, name=name), **options)
    found = method.settings(mine)
    assert (found.strategy, found.train_strategy, found.cutmix) == wanted


@pytest.mark.slow
def test_on_digits(ctx, digits):
    made = distil(_prepared(ctx, digits, ipc=1, network="convnet-1", iterations=3, inner=5, train_images=64))
    assert made.content.images.shape == (10, 16, 16, 1)
    assert made.content.images.dtype == np.float32
    assert made.content.extra["loss"] > 0


def test_the_name_that_the_released_code_asks_for_is_in_the_key(ctx):
    def key(name, method="idc"):
        return digest(artifact(prepare_method(replace(ctx, _dataset=replace(toy_dataset(), name=name)), method, 1, 0)))

    for method in ("idc", "idc-1"):
        assert key("toy", method) == key("cifar10-of-mine", method) != key("mnist", method)
    # What records name has no part for other names: their keys stay.
    for formation, part in (("single", {}), ("bound", {"bounded": "as released"})):
        mine = replace(ctx, _dataset=toy_dataset(), explicit={"method": {"formation": formation}})
        assert IDC().identity(prepare_method(mine, "idc", 1, 0).ctx) == part
