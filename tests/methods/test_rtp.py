"""RTP: bases and coefficients, differentiated through trainings (Deng and Russakovsky 2022), and its protocol."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import distil, evaluate, prepare_evaluator, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_evaluator, check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.images import RealImages  # noqa: E402
from ddbench_plugins.methods.rtp.memory import Memory, Pixels, rows_per_class  # noqa: E402
from ddbench_plugins.methods.rtp.steps import Remembering, Settings  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402

TOY = toy_dataset(channels=3)
SETTINGS = Settings(
    inner=3, lr_net=0.1, momentum=0.9, batch_syn=2, batch_real=4, classes=None, clip=2.0, reg=0.0, seed=5
)
QUICK = {"iterations": "2", "inner": "2", "network": "convnet-1", "bases": "4", "batch_syn": "2", "batch_real": "4"}


def _prepared(ctx, data=TOY, ipc=2, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, "rtp", ipc, 0)


def _memory(bases=4, scale=2, rows=3):
    return Memory((3, 8, 8), 3, rows, bases, scale, lambda learned: torch.optim.SGD(learned, 0.1, momentum=0.5), 3)


def _network(number, norm="instance"):
    with torch.random.fork_rng():
        torch.manual_seed(number)
        return convnet.build(in_channels=3, image_size=8, num_classes=3, depth=1, width=4, norm=norm)


def _work(memory=None, **settings):
    return Remembering(memory or _memory(), RealImages(TOY), _network, replace(SETTINGS, **settings))


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ((1, 10, (1, 28, 28)), 29),
        ((1, 10, (3, 32, 32)), 115),
        ((1, 100, (3, 32, 32)), 184),
        ((1, 200, (3, 64, 64)), 752),
    ],
)
def test_images_of_the_budget(data, rows):
    _, classes, shape = data
    assert rows_per_class(*data, 16, 2) == rows
    numbers = shape[0] * shape[1] * shape[2]
    for bases, scale in ((4, 1), (16, 2), (64, 4)):
        found = rows_per_class(10, classes, shape, bases, scale)
        assert bases * numbers // scale**2 + classes * found * bases <= 10 * classes * numbers


def test_identity_coefficients_without_enlarging_are_the_images_themselves():
    memory = _memory(bases=9, scale=1)
    found = memory.decode(torch.eye(9), memory.bases)
    assert torch.equal(found.detach(), memory.bases.detach())


class Pinned(Memory):
    """A base for each image and coefficients that stay the identity, so that only bases are learned."""

    def __init__(self, images, rows, optimiser):
        super().__init__((3, 8, 8), 3, rows, 3 * rows, 1, optimiser, 3)
        with torch.no_grad():
            self.images.copy_(torch.eye(3 * rows))
            self.bases.copy_(images)

    @property
    def learned(self):
        return (self.bases,)

    def at(self, rows, learned):
        return super().at(rows, (self.images, *learned))


@pytest.mark.parametrize("clip", [2.0, 1e-3])
def test_a_base_for_each_image_and_fixed_coefficients_are_the_version_without_bases(clip):
    def sgd(learned):
        return torch.optim.SGD(learned, 0.1, momentum=0.5)

    plain = Pixels.noise((3, 8, 8), 3, 2, sgd, 3)
    begun = plain.shown.clone()
    pinned = Pinned(begun, 2, sgd)
    losses = []
    for number in range(4):
        losses.append([_work(memory, clip=clip, inner=4).step(number) for memory in (plain, pinned)])
        torch.testing.assert_close(plain.images.grad, pinned.bases.grad, rtol=1e-4, atol=1e-7)
    assert [one for one, _ in losses] == pytest.approx([two for _, two in losses], abs=1e-5)
    torch.testing.assert_close(plain.shown, pinned.shown, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(plain.shown, begun, atol=1e-5)


def test_images_without_bases_begin_xavier_uniform():
    images = Pixels.noise((3, 8, 8), 10, 5, lambda learned: torch.optim.SGD(learned, 0.1), 3).shown
    bound = (6 / (3 * 8 * 8 + 10 * 5)) ** 0.5  # of the matrix [50, 192]
    assert images.shape == (50, 3, 8, 8)
    assert 0.99 * bound < float(images.abs().max()) <= bound
    assert float(images.std()) == pytest.approx(bound / 3**0.5, rel=0.02)


def test_bases_of_a_set_decode_to_its_images():
    content = _memory().distilled()
    assert content.images == pytest.approx(content.bases.decode(), abs=1e-6)
    assert content.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert content.numbers == 4 * 3 * 16 + 9 * 4


def test_gradients_are_those_of_one_graph_of_the_training():

    work = _work(momentum=0.9)
    memory, network = work.memory, _network(0)
    generator = torch.Generator().manual_seed(1)
    from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat

    whole, start = FlatNetwork(network), flat(network)
    walk = work.walk(whole, start, [0, 1, 2], generator)
    by_end = torch.randn(len(start), generator=torch.Generator().manual_seed(2))
    found = walk.gradients(by_end).learned
    learned = [tensor.detach().clone().requires_grad_() for tensor in memory.learned]
    weights, velocity = start.clone().requires_grad_(), torch.zeros_like(start)
    for number in range(3):
        (gradient,) = torch.autograd.grad(walk.loss(number, weights, learned), weights, create_graph=True)
        velocity = 0.9 * velocity + gradient
        weights = weights - 0.1 * velocity
    expected = torch.autograd.grad(weights @ by_end, learned)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-6)


def test_the_regulariser_pulls_coefficients_only_when_asked_for():
    plain, pulled = _work(), _work(reg=10.0)
    for work in (plain, pulled):
        work.step(0)
    assert not torch.equal(plain.memory.images, pulled.memory.images)
    assert float(pulled.memory.images.detach().norm()) < float(plain.memory.images.detach().norm())


def _pixels():
    return Pixels.noise((3, 8, 8), 3, 3, lambda learned: torch.optim.SGD(learned, 0.1, momentum=0.5), 3)


@pytest.mark.parametrize("memory", [_memory, _pixels])
def test_resumed_work_ends_where_undisturbed_work_does(memory):
    whole, first, second = _work(memory()), _work(memory()), _work(memory())
    for number in range(4):
        whole.step(number)
    for number in range(2):
        first.step(number)
    second.restore(first.state())
    for number in (2, 3):
        second.step(number)
    for one, two in zip(whole.memory.learned, second.memory.learned, strict=True):
        assert torch.equal(one, two)


def test_the_loss_falls_and_its_own_protocol_takes_the_set(ctx):
    options = QUICK | {"iterations": "40", "inner": "5", "optimiser": "adam", "lr_img": "0.05", "lr_net": "0.02"}
    begun, made = (distil(_prepared(ctx, **(options | {"iterations": number}))) for number in ("1", "40"))
    assert made.content.extra["loss"] < begun.content.extra["loss"] - 0.1
    assert made.content.counted == "numbers"
    mine = replace(ctx, _dataset=TOY, explicit={"evaluator": {"epochs": "60", "lr": "0.02"}})
    record = evaluate(prepare_evaluator(mine, "rtp", "convnet-1", 2), made, repeats=1)
    assert record.result.last[0] > 0.4


def test_images_without_bases_are_an_ordinary_set(ctx):
    options = QUICK | {"bases": "0", "iterations": "3", "snapshots": "[1]"}
    made = distil(_prepared(ctx, **options))
    assert (made.content.counted, made.content.bases, made.content.space) == ("images", None, "normalized")
    assert made.content.images.shape == (6, 8, 8, 3)
    assert made.content.labels.tolist() == [0, 0, 1, 1, 2, 2]
    kept = ddbench.load(made.path / "snapshots" / "000001")
    first = distil(_prepared(ctx, **(options | {"iterations": "1", "snapshots": "[]"})))
    assert kept.images == pytest.approx(first.content.images)
    for evaluator in ("rtp", "dc"):
        mine = replace(ctx, _dataset=TOY, explicit={"evaluator": {"epochs": "2"}})
        assert evaluate(prepare_evaluator(mine, evaluator, "convnet-1", 2), made, repeats=1).result.last


def _few(classes, channels=3):
    images = np.random.default_rng(0).integers(0, 255, (classes, 8, 8, channels), np.uint8)
    split = ddbench.Split(ddbench.ArrayImages(images), np.arange(classes), tuple(map(str, range(classes))))
    names = tuple(f"class {label}" for label in range(classes))
    data = replace(TOY, class_names=names, class_ids=names, train=split, test=split, fingerprint=f"{classes, channels}")
    return replace(data, mean=(0.5,) * channels, std=(0.25,) * channels)


@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (1, 1), (100, 3)])
def test_one_class_one_image_grey_images_and_a_hundred_classes(ctx, classes, channels):
    made = distil(_prepared(ctx, _few(classes, channels), 1, **(QUICK | {"bases": "2", "classes": "5"})))
    assert made.content.images.shape[1:] == (8, 8, channels)
    assert set(made.content.labels) == set(range(classes))


def test_mistakes_are_named(ctx):
    with pytest.raises(ddbench.UsageError, match="leave no room for coefficients"):
        distil(_prepared(ctx, **(QUICK | {"bases": "100"})))
    with pytest.raises(ddbench.UsageError, match="8 pixels are no bases enlarged 3 times"):
        distil(_prepared(ctx, **(QUICK | {"scale": "3"})))
    for name in ("scale", "reg"):
        with pytest.raises(ddbench.UsageError, match=f"bases=0 learns images themselves, and {name} is an option"):
            distil(_prepared(ctx, **(QUICK | {"bases": "0", name: "1"})))
    with pytest.raises(ddbench.DivergedError, match="not finite"):
        distil(_prepared(ctx, **(QUICK | {"lr_net": "1e30", "inner": "4"})))


def test_settings_by_preset(ctx):
    paper = _prepared(ctx, preset="paper")[1]
    options = paper.options
    assert (options.inner, options.lr_net, options.momentum, options.batch_syn) == (150, 0.01, 0.9, 32)
    assert (options.bases, options.scale, options.optimiser, options.lr_img, options.clip) == (16, 2, "sgd", 0.1, 2.0)
    assert [paper.resolved.experiment[name][0] for name in ("eval", "repeats")] == ["rtp", 10]
    assert "repeats" not in _prepared(ctx)[1].resolved.experiment
    assert _prepared(ctx, data=_few(100), ipc=1, preset="paper")[1].options.classes == 10


def test_they_conform(ctx):
    options = {"iterations": 2, "inner": 2, "network": "convnet-1", "bases": 4, "batch_syn": 2, "batch_real": 4}
    for bases in (4, 0):
        check_method(ctx.plugins.get("method", "rtp").spec, options=options | {"bases": bases})
    record = check_evaluator(ctx.plugins.get("evaluator", "rtp").spec, options={"epochs": 5}, network="convnet-1")
    stated = {"label_type": "hard", "optimiser": "SGD, momentum 0.9", "schedule": "constant", "batch_size": 640}
    assert {name: record.protocol.settings[name] for name in stated} == stated
