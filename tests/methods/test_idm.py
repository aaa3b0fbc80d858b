"""IDM: DM with several images in each, a queue of networks in training, and cross-entropy (Zhao et al. 2023)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import distil, evaluate, prepare_evaluator, prepare_method
from ddbench.plugin.options import Preset
from ddbench.runtime.progress import Reporter
from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.images import RealImages, initial_images  # noqa: E402
from ddbench_plugins.methods.dm.matching import DistributionMatching, Matching  # noqa: E402
from ddbench_plugins.methods.dm.queue import NetworkQueue, Queue, QueueMatching  # noqa: E402
from ddbench_plugins.methods.dm.tiled import TiledImages, initial_tiles  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402
from torch.nn.functional import cross_entropy, interpolate  # noqa: E402

SETTINGS = Matching(batch_real=5, strategy=(), bn_joint=True, precision="fp32", seed=5)
HOW = Queue(
    **{"queue": 3, "begin": 2, "push_every": 2, "trained": 1, "train_steps": 2, "batch_train": 6, "lr_net": 0.01},
    **{"precision": "fp32", "seed": 7},
)
QUICK = {"network": "convnet-1", "batch_real": 5, "iterations": 3}
TRAINING = {"push_every": 1, "train_steps": 1, "batch_train": 6}


def _network(number):
    torch.manual_seed(number)
    network = convnet.build(in_channels=3, image_size=8, num_classes=3, depth=2, width=4)
    return network.to(memory_format=torch.channels_last).train()


@pytest.fixture
def real():
    return RealImages(toy_dataset(per_class=8, channels=3))


def _work(real, ce_weight=0.5, factor=2, **how):
    images = TiledImages(initial_tiles(real, 1, factor, "real", 3), 1, 0.2, factor)
    queue = NetworkQueue(_network, real, replace(HOW, **how))
    return QueueMatching(images, real, _network, SETTINGS, queue, ce_weight)


def test_images_begin_as_four_training_images_and_show_them(real):
    drawn = initial_images(real, 4, "real", 3)
    images = TiledImages(initial_tiles(real, 1, 2, "real", 3, mode="bilinear"), 1, 0.2, 2)
    shown = images.of_class(1)
    small = interpolate(drawn[4:8], size=(4, 4), mode="bilinear")  # the mean of two by two pixels
    torch.testing.assert_close(small, drawn[4:8].unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)))
    torch.testing.assert_close(shown, interpolate(small, size=(8, 8), mode="bilinear"))
    assert images.distilled().extra == {"factor": 2}
    assert torch.equal(initial_tiles(real, 2, 1, "real", 3), initial_images(real, 2, "real", 3))


def test_how_many_networks_there_are(real):
    queue = NetworkQueue(_network, real, HOW)
    numbers = []
    for step in range(7):
        queue.at(step)
        numbers.append([member.number for member in queue.members])
    # two at first, one more before every second step, three at most
    assert numbers == [[0, 1], [0, 1], [0, 1, 2], [0, 1, 2], [1, 2, 3], [1, 2, 3], [2, 3, 4]]


def test_different_networks_are_trained_on_different_images(real):
    queue = NetworkQueue(_network, real, replace(HOW, begin=3, trained=2, train_steps=1, batch_train=20))
    heard = []
    queue._step = lambda member, generator: heard.append(member.number)
    for step in range(20):
        queue.train(step)
    assert all(one != other for one, other in zip(heard[::2], heard[1::2], strict=True))
    assert set(heard) == {0, 1, 2}
    queue = NetworkQueue(_network, real, replace(HOW, begin=1, trained=2, train_steps=1, batch_train=24))
    shown = []
    at, real.at = real.at, lambda positions: shown.append(positions) or at(positions)
    queue.train(0)  # of the one that there is
    real.at = at
    assert [len(set(positions.tolist())) for positions in shown] == [24]


def test_the_pixels_move_after_each_class(real):
    work = _work(real, begin=1, queue=1, trained=0)
    work.settings = replace(SETTINGS, step_per_class=True)
    begun, moved = work.images.images.detach().clone(), []
    move = work._move
    work._move = lambda: (move(), moved.append(work.images.images.detach().clone()))
    work.step(0)
    assert len(moved) == 3
    for label in range(3):  # a class moves with its own step and, by momentum, with those after it
        before = moved[label - 1] if label else begun
        changed = [not torch.equal(a, b) for a, b in zip(before, moved[label], strict=True)]
        assert changed == [place <= label for place in range(3)]


def test_training_is_counted_in_percent_and_nothing_else_changes(real):
    queue = NetworkQueue(_network, real, replace(HOW, begin=1, queue=1, train_steps=30, batch_train=24))
    member = queue.at(0)
    assert float(member.percent) == 0
    queue.train(0)
    assert member.seen == 720
    assert 40 < float(member.percent) <= 100
    assert float(member.percent) == pytest.approx(100 * float(member.right) / 720)


def test_networks_that_were_never_trained_give_dms_loss(real):
    work = _work(real, factor=1, begin=1, queue=1, trained=0)
    plain = DistributionMatching(
        TiledImages(initial_images(real, 1, "real", 3), 1, 0.2, 1), real, lambda number: _network(0), SETTINGS
    )
    assert work.step(0) == plain.step(0)
    assert torch.equal(work.images.images, plain.images.images)


def test_the_cross_entropy_is_weighed_by_percent(real):
    losses = []
    for weight in (0.0, 0.5):
        work = _work(real, ce_weight=weight, begin=1, queue=1, trained=0)
        work.queue.members[0].right += 3
        work.queue.members[0].seen = 4
        losses.append(float(work.step(0)))
    work = _work(real, begin=1, queue=1, trained=0)
    network = work.queue.members[0].network
    with torch.no_grad():
        named = [cross_entropy(network(work.images.of_class(c)), torch.full((4,), c)) for c in range(3)]
    assert losses[1] - losses[0] == pytest.approx(0.5 * 75 * float(sum(named)), rel=1e-4)


def _prepared(ctx, method="idm", preset="", ipc=1, data=None, **options):
    data = data or toy_dataset(per_class=8, channels=3)
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, method, ipc, 0)


def test_with_its_differences_off_it_is_dm_bit_for_bit(ctx):
    plain = distil(_prepared(ctx, "dm", **QUICK)).content.images
    off = distil(_prepared(ctx, **QUICK, factor=1, queue=0, lr_img=1.0, step_per_class=False)).content.images
    assert np.array_equal(off, plain)
    alike = {"factor": 1, "queue": 0, "step_per_class": False}
    for difference in ({"factor": 2}, {"queue": 3, **TRAINING}, {"step_per_class": True}):
        other = distil(_prepared(ctx, **QUICK, lr_img=1.0, **alike | difference)).content.images
        assert not np.array_equal(other, plain)


def test_whoever_does_not_decode_its_images_is_told_so(ctx):
    class Heard(Reporter):
        def warn(self, message):
            heard.append(message)

    heard = []
    made = distil(_prepared(ctx, **QUICK, **TRAINING))
    data = toy_dataset(per_class=8, channels=3)
    for name, options, warnings in (("dc", {"decode": "false"}, 1), ("dc", {"decode": "true"}, 0), ("idc", {}, 0)):
        heard.clear()
        mine = replace(ctx, _dataset=data, reporter=Heard(), explicit={"evaluator": {"epochs": "1", **options}})
        record = evaluate(prepare_evaluator(mine, name, "convnet-1", 1), made, repeats=1)
        assert len(heard) == warnings and all("holds 2 × 2 others, and dc trains" in line for line in heard)
        assert record.protocol.settings.get("formation") == ("as stored" if warnings else None)


def test_a_class_too_small_for_its_tiles_is_refused(ctx):
    with pytest.raises(ddbench.UsageError, match="12 training images of each class, 2 × 2 in an image"):
        _prepared(ctx, ipc=3, **QUICK)


def test_more_tiles_than_pixels_are_refused(ctx):
    with pytest.raises(ddbench.UsageError, match="cannot hold 99 images"):
        _prepared(ctx, **QUICK | {"factor": 99})


def test_settings_of_the_paper_and_what_the_cpu_scale_shrinks(ctx, digits):
    cifar = replace(digits, name="cifar10", image_size=32)
    ten = _prepared(ctx, preset="paper", ipc=10, data=cifar)[1].options
    assert (ten.iterations, ten.lr_img, ten.batch_real, ten.factor, ten.ce_weight) == (20000, 0.2, 256, 2, 0.5)
    assert (ten.queue, ten.begin, ten.push_every, ten.trained, ten.train_steps) == (100, 4, 30, 2, 10)
    assert (ten.batch_train, ten.lr_net) == (256, 0.01)
    # Digits have too few images to begin with 200 of each class.
    one, fifty = (_prepared(ctx, preset="paper", ipc=ipc, data=cifar, init="noise")[1].options for ipc in (1, 50))
    assert (one.batch_real, one.push_every, fifty.ce_weight) == (5000, 5, 0.1)
    assert one.step_per_class
    tiny, nette = (replace(digits, name=name, image_size=64) for name in ("tiny-imagenet", "imagenette"))
    assert _prepared(ctx, preset="paper", ipc=1, data=tiny)[1].options.push_every == 30
    queues = [_prepared(ctx, preset="paper", ipc=ipc, data=nette)[1].options.queue for ipc in (10, 50)]
    assert queues == [50, 100]
    shrunk = {name for name, _, _ in _prepared(ctx, ipc=10, data=cifar)[1].resolved.shrunk}
    assert shrunk == {*("network", "iterations", "batch_real", "queue"), "train_steps", "batch_train"}


def test_it_conforms(ctx):
    spec = ctx.plugins.get("method", "idm").spec
    check_method(spec, options={**QUICK, **TRAINING, "batch_real": 4, "factor": 1})
