"""G-VBSM and EDC: their statistics by hand, teachers in turn, and that nothing is left when they are switched off."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from ddbench.errors import UsageError
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.runtime.store import Store

torch = pytest.importorskip("torch")
from ddbench_plugins.methods.sre2l import recover as sre2l  # noqa: E402
from ddbench_plugins.methods.sre2l.crops import smallest_area  # noqa: E402
from ddbench_plugins.methods.sre2l.layers import read, view  # noqa: E402
from ddbench_plugins.methods.sre2l.statistics import (  # noqa: E402
    Gathering,
    Matching,
    Statistics,
    densification,
    measured,
    tiles,
)
from ddbench_plugins.training.engine import Loop  # noqa: E402
from torch import nn  # noqa: E402

SETTINGS = sre2l.Recovery(
    iterations=7,
    lr=0.1,
    bn_weight=0.01,
    jitter=(0, 2),
    crop=False,
    flip=True,
    tv_weight=0.0,
    l2_weight=0.0,
    size=8,
    channels=3,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
    padding=1,
    convolutions=True,
    drop=0.4,
    memory=0.8,
    class_share=0.5,
    density_weight=1.0,
)
LABELS = torch.tensor([0, 1, 2, 2])
IMAGES = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(3))
CLASSES = torch.arange(12) % 3
BOTH = Matching(first_bn=1.0, convolutions=True)


def _teacher(seed=0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(5 * 16, 3)).eval().requires_grad_(False)


def _gathered(network, images=IMAGES, classes=CLASSES, batch=12):
    work = Gathering(network, lambda number: (images.split(batch)[number], classes.split(batch)[number]), 3, 4)
    for number in range(-(-len(images) // batch)):
        work.step(number)
    return work.means()


def _loss(network, x, settings, real=None, labels=CLASSES):
    statistics = Statistics(network, settings, real)
    statistics.begin(labels, torch.Generator().manual_seed(0))
    network(x)
    statistics.remove()
    return statistics.loss()


# Statistics ---------------------------------------------------------------------------------------------------------


def test_a_convolution_is_measured_by_channel_and_by_patch():
    x, layer = torch.randn(2, 3, 8, 12), nn.Conv2d(3, 1, 1)
    found = measured(x, layer, 4)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        **{"variance": (3,), "mean": (3,), "patch_variance": (6,), "patch_mean": (6,)}
    }
    second = x[:, :, 4:8, :4]  # of the second row
    assert float(found["patch_mean"][3]) == pytest.approx(float(second.mean()), abs=1e-6)
    assert float(found["patch_variance"][3]) == pytest.approx(float(second.var(correction=0)), rel=1e-5)
    each = measured(x, layer, 4, each=True)
    torch.testing.assert_close(each["patch_mean"][1, 3], second[1].mean())
    torch.testing.assert_close(each["variance"][0, 2], x[0, 2].var(correction=0))
    assert set(measured(x, nn.BatchNorm2d(3), 4)) == {"variance", "mean"}


def test_sides_that_a_patch_does_not_divide_are_enlarged():
    assert tiles(torch.randn(2, 3, 5, 8), 4).shape == (2, 3, 2, 4, 2, 4)
    assert tiles(torch.randn(2, 3, 7, 32), 16).shape == (2, 3, 1, 16, 2, 16)
    torch.testing.assert_close(tiles(torch.full((1, 1, 2, 2), 3.0), 4), torch.full((1, 1, 1, 4, 1, 4), 3.0))


def test_images_of_the_training_set_are_at_no_distance_from_it():
    network = _teacher()
    with torch.no_grad():
        inputs = IMAGES
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var, layer.running_mean = torch.var_mean(inputs, dim=(0, 2, 3), correction=0)
            inputs = layer(inputs)
    real = _gathered(network)
    assert float(_loss(network, IMAGES, BOTH, real)) == pytest.approx(0, abs=1e-4)
    assert float(_loss(network, 2 * IMAGES, BOTH, real)) > 1


def test_the_training_set_is_averaged_over_batches_and_classes_over_images():
    real, name = _gathered(_teacher(), batch=4), "0"
    batches = torch.stack([part.var((0, 2, 3), correction=0) for part in IMAGES.split(4)])
    torch.testing.assert_close(real[f"{name}/variance"], batches.mean(0))
    own = IMAGES[CLASSES == 1]
    torch.testing.assert_close(real[f"{name}/classes/mean"][1], own.mean((0, 2, 3)))
    torch.testing.assert_close(real[f"{name}/classes/variance"][1], own.var((2, 3), correction=0).mean(0))
    assert {key.split("/")[0] for key in real} == {"0", "1", "3", "4"}


@pytest.mark.parametrize(("views", "border"), [("padded", True), ("resized", False), ("none", False)])
def test_training_images_are_cropped_from_a_black_border(views, border):
    """Released code crops before it normalises, so that the border is black and not of mean colour (0)."""
    seen = view(views, 8, True, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    shades = seen(torch.ones(64, 3, 8, 8), torch.Generator().manual_seed(0))[:, 0]
    assert float(shades.max()) == pytest.approx((1 - 0.5) / 0.2)
    assert float(shades.min()) == pytest.approx((0 - 0.5) / 0.2 if border else (1 - 0.5) / 0.2)
    assert float(shades.flatten(1).mean(1).std()) > 0.1 or not border  # each has a crop of its own


def test_the_side_of_a_patch_is_that_of_the_statistics():
    network = _teacher()
    work = Gathering(network, lambda number: (IMAGES, CLASSES), 3, 2)
    work.step(0)
    real = work.means()
    assert real["0/patch_mean"].shape == (16,)  # 8 × 8 pixels
    norms = Matching(first_bn=1.0)
    found = _loss(network, IMAGES, replace(BOTH, patch=2), real)
    torch.testing.assert_close(found, _loss(network, IMAGES, norms), atol=1e-4, rtol=1e-5)


def test_dropped_convolutions_leave_the_batch_norms():
    network = _teacher()
    real = _gathered(network)
    dropped = _loss(network, IMAGES, replace(BOTH, drop=1.0), real)
    torch.testing.assert_close(dropped, _loss(network, IMAGES, Matching(first_bn=1.0)))
    assert _loss(network, IMAGES, BOTH, real) == _loss(network, IMAGES, replace(BOTH, drop=0.0), real)


def test_classes_count_by_their_share_of_the_batch_and_half():
    network, layer = nn.Sequential(nn.Conv2d(3, 2, 3)), nn.Conv2d(3, 2, 3)
    real = _gathered(network)
    settings = replace(BOTH, class_share=1.0)
    now = measured(IMAGES, layer, 4)
    classes = {name: real[f"0/classes/{name}"] for name in now}

    def distance(goal):
        return sum(float((goal[name] - now[name]).norm()) for name in now)

    alike = {name: value.mean(0) for name, value in classes.items()}
    assert float(_loss(network, IMAGES, settings, real)) == pytest.approx(distance(alike), rel=1e-5)
    labels = torch.tensor([0] * 9 + [2] * 3)
    mixed = {name: value[0] * 0.75 + value[2] * 0.25 for name, value in classes.items()}
    assert float(_loss(network, IMAGES, settings, real, labels)) == pytest.approx(distance(mixed), rel=1e-5)
    whole = {name: real[f"0/{name}"] + 1 for name in now}
    other = {**real, **{f"0/{name}": value for name, value in whole.items()}}
    half = float(_loss(network, IMAGES, replace(BOTH, class_share=0.5), other))
    assert half == pytest.approx((distance(whole) + distance(alike)) / 2, rel=1e-5)
    exchanged = alike | {"patch_mean": alike["patch_variance"], "patch_variance": alike["patch_mean"]}
    swapped = float(_loss(network, IMAGES, replace(settings, exchanged_patches=True), real))
    assert swapped == pytest.approx(distance(exchanged), rel=1e-5)


@pytest.mark.parametrize(("from_zero", "shares"), [(False, (1.0, 0.0)), (True, (0.2, 0.2))])
def test_statistics_are_averages_over_the_steps_with_the_gradient_of_the_last(from_zero, shares):
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    statistics = Statistics(network, Matching(first_bn=1.0, memory=0.8, memory_from_zero=from_zero))
    first, second = IMAGES, (2 * IMAGES + 1).requires_grad_()
    means = [x.mean((0, 2, 3)) for x in (first, second)]
    variances = [x.var((0, 2, 3), correction=0) for x in (first, second)]
    network(first)
    losses = [float(statistics.loss())]
    network(second)
    loss = statistics.loss()
    loss.backward()
    found, gradient = losses[0], second.grad.clone()
    now = [shares[0] * means[0], shares[0] * variances[0]]
    assert found == pytest.approx(float((1 - now[1]).norm() + now[0].norm()), rel=1e-5)
    before = shares[0] if from_zero else 1.0
    goal = [0.8 * before * means[0] + 0.2 * means[1], 0.8 * before * variances[0] + 0.2 * variances[1]]
    assert loss.item() == pytest.approx(float((1 - goal[1]).norm() + goal[0].norm()), rel=1e-5)
    second.grad = None
    directions = [value.detach() - target for value, target in zip(goal, (0, 1), strict=True)]
    directions = [direction / direction.norm() for direction in directions]
    (directions[0] @ means[1] + directions[1] @ variances[1]).backward()
    torch.testing.assert_close(gradient, second.grad)
    statistics.forget()
    assert bool(statistics.averages) is from_zero
    statistics.remove()


def test_densification_is_nothing_where_all_eigenvalues_are_equal():
    images = torch.zeros(4, 1, 2, 2)
    images.view(4, 4).fill_diagonal_(3.0)
    assert float(densification(images, torch.tensor([0, 0, 1, 1]), 4.0)) == pytest.approx(0, abs=1e-6)
    assert float(densification(images, torch.arange(4), 4.0)) == pytest.approx(0, abs=1e-6)  # one image of each class
    images[1] *= 1.5
    values = torch.tensor([9.0, 20.25])
    target, got = (values / 4).softmax(0), values.softmax(0)
    expected = float((target * (target / got).log()).sum())
    assert float(densification(images, torch.tensor([0, 0, 1, 1]), 4.0)) == pytest.approx(expected, rel=1e-4)


# The recovery -------------------------------------------------------------------------------------------------------


def _recover(settings=SETTINGS, networks=None, loop=None, batches=None):
    networks = networks or [_teacher(), _teacher(1)]
    real = [_gathered(network) for network in networks]
    batches = batches or [sre2l.Batch(LABELS), sre2l.Batch(LABELS.flip(0))]
    return sre2l.recover(networks, batches, settings, seed=1, real=real, loop=loop)


def test_teachers_take_turns():
    networks, seen = [_teacher(), _teacher(1)], []
    for number, network in enumerate(networks):
        network.register_forward_hook(lambda *_, number=number: seen.append(number))
    real = [_gathered(network) for network in networks]
    seen.clear()
    sre2l.recover(networks, [sre2l.Batch(LABELS)], SETTINGS, seed=1, real=real)
    assert seen == [0, 1, 0, 1, 0, 1, 0]
    assert not any(module._forward_pre_hooks for network in networks for module in network.modules())


OFF = {"convolutions": False, "memory": 0.0, "class_share": 0.0, "density_weight": 0.0, "padding": 0}


def test_switched_off_it_is_the_parents_recovery():
    off = replace(SETTINGS, **OFF)
    plain = sre2l.recover([_teacher()], [sre2l.Batch(LABELS)], off, seed=1).images
    assert torch.equal(_recover(off, [_teacher()], batches=[sre2l.Batch(LABELS)]).images, plain)
    for name in OFF:
        on = replace(off, **{name: getattr(SETTINGS, name)})
        assert not torch.equal(_recover(on, [_teacher()], batches=[sre2l.Batch(LABELS)]).images, plain), name
    assert not torch.equal(_recover(off, batches=[sre2l.Batch(LABELS)]).images, plain)


def test_without_their_weight_nothing_of_real_images_is_needed():
    off = replace(SETTINGS, bn_weight=0.0)
    free = sre2l.recover([_teacher()], [sre2l.Batch(LABELS)], off, seed=1)
    assert torch.equal(_recover(off, [_teacher()], batches=[sre2l.Batch(LABELS)]).images, free.images)


class _Kept:
    def __init__(self, kill_after):
        self.state, self.saves, self.kill_after = None, 0, kill_after

    def load(self):
        return self.state

    def save(self, state):
        self.state, self.saves = copy.deepcopy(state), self.saves + 1
        if self.saves == self.kill_after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kill_after", [1, 4, 7, 9])
@pytest.mark.parametrize("from_zero", [False, True])
def test_a_killed_recovery_ends_with_the_same_images(kill_after, from_zero):
    settings, kept = replace(SETTINGS, memory_from_zero=from_zero), _Kept(kill_after)
    undisturbed = _recover(settings)
    with pytest.raises(KeyboardInterrupt):
        _recover(settings, loop=Loop(checkpoint=kept, checkpoint_seconds=0))
    kept.kill_after = 0
    found = _recover(settings, loop=Loop(checkpoint=kept, checkpoint_seconds=0))
    assert torch.equal(found.images, undisturbed.images) and found.losses == undisturbed.losses
    assert [sorted(each) for each in found.losses] == [["bn", "ce", "density"]] * 2


def test_killed_gathering_finds_the_same():
    network, parts = _teacher(), (IMAGES.split(4), CLASSES.split(4))
    work = Gathering(network, lambda number: (parts[0][number], parts[1][number]), 3, 4)
    work.step(0)
    again = Gathering(network, work.batch_of, 3, 4)
    again.restore(copy.deepcopy(work.state()))
    for number in (1, 2):
        again.step(number)
    expected = _gathered(network, batch=4)
    assert all(torch.equal(value, expected[name]) for name, value in again.means().items())


# The methods --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory, teachers):
    home = tmp_path_factory.mktemp("home")
    (home / "teacher").symlink_to(teachers)
    return Store(home)


@pytest.fixture
def ctx(ctx, store):
    """A context whose steps are made once."""
    return replace(ctx, store=store)


def _prepared(ctx, data, method, preset="", ipc=2, **options):
    texts = {name: str(value) for name, value in options.items()}
    ctx = replace(ctx, _dataset=data, explicit={"method": texts}, preset=Preset.parse(preset))
    return prepare_method(ctx, method, ipc, 0)


NOTHING = {"ring": "[]", "convolutions": "false", "memory": 0, "density_weight": 0, "padding": 0, "init": "noise"}
NO_CLASSES = {"class_share": 0, "crop": "false"}


@pytest.mark.slow
def test_children_without_their_differences_are_their_parents(ctx, digits):
    shared = {"iterations": 4, "lr": 0.1, "jitter": 4, "together": "set"}

    def images(method, **options):
        return distil(_prepared(ctx, digits, method, **shared, **options)).content.images

    parent = images("sre2l")
    assert np.array_equal(images("g-vbsm", **NOTHING), parent)
    assert np.array_equal(images("edc", **NOTHING, **NO_CLASSES), parent)
    views = {"statistics_images": 100, "ring": "[]"}
    like = {**NO_CLASSES, "drop": 0.4, "init": "noise", "padding": 2, "density_weight": 1}
    assert np.array_equal(images("edc", **views, **like), images("g-vbsm", **views))
    assert not np.array_equal(images("edc", **views, **{**like, "class_share": 0.5}), images("g-vbsm", **views))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["g-vbsm", "edc"])
def test_real_images_that_hardly_move_stay_as_they_are(ctx, digits, method):
    options = {"ring": "[]", "init": "random", "statistics_images": 100, "iterations": 1, "lr": 1e-6, "chunk": 6}
    made = distil(_prepared(ctx, digits, method, **options)).content
    for image, label in zip(made.images, made.labels, strict=True):
        own = digits.train.images.batch(digits.train.of_class(int(label)).tolist(), 16)
        assert (own == image).all((1, 2, 3)).any()


@pytest.mark.slow
def test_a_run_with_several_teachers(ctx, digits):
    small = {"ring": '["lenet"]', "iterations": 3, "statistics_images": 100}
    for name in ("g-vbsm", "edc"):
        prepared = _prepared(ctx, digits, name, **small)
        made = distil(prepared).content
        assert made.images.shape == (20, 16, 16, 1)
        assert [told["network"] for told in made.extra["ring"]] == ["lenet"]
    plugin, mine, _ = prepared
    (calls,) = [[call for call in plugin.needs(mine) if call.step.name == "layer-statistics"]]
    real = read(calls[0].done(), "cpu")
    assert len(calls) == 2 and real and all(value.isfinite().all() for value in real.values())
    assert {value.shape[0] for name, value in real.items() if "/classes/" in name} == {10}


def test_a_network_without_layers_to_compare_is_refused(ctx, digits):
    with pytest.raises(UsageError, match="mlp has none"):
        _prepared(ctx, digits, "g-vbsm", ring='["mlp"]', iterations=1)
    with pytest.raises(UsageError, match="convnet-3-w32 has none") as refused:
        _prepared(ctx, digits, "g-vbsm", convolutions="false")  # the ring of the preset has instance norm
    assert "method.ring" in refused.value.hint


@pytest.mark.parametrize("ring", ['["lenet", "lenet"]', '["convnet-3-bn"]'])
def test_a_teacher_that_stands_twice_in_the_ring_is_refused(ctx, digits, ring, tmp_path):
    with pytest.raises(UsageError, match="would be one teacher"):
        _prepared(ctx, digits, "edc", ring=ring)
    weights = tmp_path / "weights.safetensors"  # of the first alone
    weights.touch()
    assert _prepared(ctx, digits, "edc", ring='["convnet-3-bn"]', teacher_file=weights)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("cda", {"crop": "false", "milestone": 0.5}),
        ("dwa", {"adjustments": 0, "radius": 0.1}),
        ("delt", {"jitter": 0, "jitter_centred": "true"}),
        ("sre2l", {"bn_weight": 0, "first_bn": 1}),
        ("g-vbsm", {"memory": 0, "memory_from_zero": "true"}),
        ("g-vbsm", {"density_weight": 0, "density_temperature": 2}),
        ("g-vbsm", {"convolutions": "false", "drop": 0.1, "ring": "[]"}),
        ("g-vbsm", {"convolutions": "false", "statistics_images": 100, "ring": "[]"}),
        ("edc", {"class_share": 0, "exchanged_patches": "true"}),
        ("edc", {"crop": "false", "smallest_crop": 0.3}),
    ],
)
def test_options_that_change_nothing_are_refused(ctx, digits, method, options):
    because, idle, *more = options
    with pytest.raises(UsageError, match=f"so that {idle} changes nothing"):
        _prepared(ctx, digits, method, **options)
    _prepared(ctx, digits, method, **{name: options[name] for name in (because, *more)})


def test_what_classes_are_compared_with_may_be_chosen_without_convolutions(ctx, digits):
    assert _prepared(ctx, digits, "edc", convolutions="false", statistics_images=100, ring="[]")


def test_statistics_are_shared_by_the_methods(ctx, digits):
    def keys(method, **options):
        plugin, mine, _ = _prepared(ctx, digits, method, **options)
        return [call.key for call in plugin.needs(mine) if call.step.name == "layer-statistics"]

    assert keys("g-vbsm") == keys("edc") == keys("edc", iterations=3, drop=0.5)
    for other in ({"statistics_images": 7}, {"statistics_batch": 7}, {"statistics_views": "none"}, {"patch": 2}):
        assert len(keys("edc")) == 3 and not set(keys("edc")) & set(keys("edc", **other)), other
    assert keys("g-vbsm", convolutions="false", ring="[]") == []
    assert keys("edc", convolutions="false", ring="[]") == keys("edc", ring="[]")  # of the classes


def test_the_smallest_crop_may_be_larger():
    assert smallest_area("cosine", 0.3, 0.0, 0.5) == 0.5


_CIFAR, _LARGE = "modified-resnet-18", "resnet-18-bn"
_MOBILE, _EFFICIENT, _SHUFFLE = (
    f"torchvision:{name}" for name in ("mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5")
)


@pytest.mark.parametrize(
    ("method", "data", "ipc", "values"),
    [
        ("g-vbsm", "cifar10", 10, {"iterations": 4000, "lr": 0.05, "padding": 4, "jitter": 32, "drop": 0.4}),
        ("g-vbsm", "tiny-imagenet", 50, {"lr": 0.05, "bn_weight": 0.01, "padding": 8, "crop": False, "jitter": 32}),
        ("g-vbsm", "imagenet-1k", 10, {"lr": 0.1, "chunk": 80, "crop": True, "memory": 0.4, "drop": 0, "jitter": 32}),
        ("edc", "cifar10", 1, {"iterations": 75, "lr": 0.05, "smallest_crop": 0.08, "padding": 0, "init": "random"}),
        ("edc", "cifar100", 10, {"iterations": 2000, "memory": 0.8, "smallest_crop": 0.5, "drop": 0, "jitter": 0}),
        ("edc", "tiny-imagenet", 10, {"iterations": 2000, "lr": 0.05, "bn_weight": 0.01, "crop": True, "padding": 0}),
        (
            "edc",
            "imageidc",
            10,
            {"iterations": 50, "lr": 0.05, "memory": 0, "init": "rded", "ring": (_MOBILE, _SHUFFLE)},
        ),
        ("edc", "imagenet-1k", 10, {"iterations": 1000, "lr": 0.05, "bn_weight": 0.1, "chunk": 80, "class_share": 0.5}),
    ],
)
def test_paper_settings(ctx, digits, method, data, ipc, values):
    size = {"tiny-imagenet": 64, "imagenet-1k": 224, "imageidc": 224}.get(data, 32)
    options = _prepared(ctx, replace(digits, name=data, image_size=size), method, "paper", ipc)[1].options
    assert {name: getattr(options, name) for name in values} == values
    large = data.startswith("image")
    assert options.network == (_LARGE if large else _CIFAR)
    assert options.ring[0] == (_MOBILE if large else "convnet-3")
    assert options.statistics_views == ("resized" if large else "padded") and options.together == "class"
    assert (options.patch, options.statistics_batch) == ((16, 256) if large else (4, 64))


def test_small_images_of_imagenet_are_rolled_and_cut_in_proportion(ctx, digits):
    data = replace(digits, name="imagenette", image_size=64)
    rolls = {name: _prepared(ctx, data, name)[1].options for name in ("g-vbsm", "edc")}
    assert {name: (options.jitter, options.patch) for name, options in rolls.items()} == {
        "g-vbsm": (8, 4),
        "edc": (0, 4),
    }


def test_quirks_are_those_of_official(ctx, digits):
    data = replace(digits, name="cifar10")
    assert [_prepared(ctx, data, name)[1].options.lr for name in ("g-vbsm", "edc")] == [0.25, 0.05]
    for method, quirks in {"g-vbsm": {"jpeg": False}, "edc": {"jpeg": True, "exchanged_patches": True}}.items():
        sane, official = (_prepared(ctx, data, method, preset)[1].options for preset in ("", "official"))
        expected = {**quirks, "memory_from_zero": True, "normalisation": "cifar100", "together": "class"}
        assert {name: getattr(official, name) for name in expected} == expected
        assert not sane.memory_from_zero and sane.normalisation == "dataset" and not sane.jpeg
    for name, normalisation in {"cifar100": "dataset", "tiny-imagenet": "imagenet", "imagenette": "dataset"}.items():
        data = replace(digits, name=name)
        for method in ("g-vbsm", "edc"):
            official = _prepared(ctx, data, method, "official")[1].options
            assert (official.jpeg, official.normalisation) == (name == "imagenette", normalisation), (method, name)
