"""CDA, DWA and DELT: what each does otherwise than SRe2L, and that nothing is left of it when it is switched off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.runtime.store import Store

torch = pytest.importorskip("torch")
from ddbench_plugins.methods.sre2l import recover as sre2l  # noqa: E402
from ddbench_plugins.methods.sre2l.adjust import AdjustedWeights  # noqa: E402
from ddbench_plugins.methods.sre2l.crops import smallest_area  # noqa: E402
from ddbench_plugins.methods.sre2l.delt import DeltOptions, first_iterations  # noqa: E402
from ddbench_plugins.methods.sre2l.start import around_median  # noqa: E402
from ddbench_plugins.training.engine import Loop  # noqa: E402
from torch import nn  # noqa: E402

SETTINGS = sre2l.Recovery(
    iterations=6,
    lr=0.1,
    bn_weight=0.01,
    first_bn=10.0,
    jitter=(0, 2),
    crop=False,
    flip=False,
    tv_weight=0.0,
    l2_weight=0.0,
    size=8,
    channels=3,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)
LABELS = torch.tensor([0, 1, 2, 2])
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def _teacher() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(5 * 16, 3)).eval().requires_grad_(False)


def _prepared(ctx, data, method, preset="", ipc=2, seed=0, **options):
    texts = {name: str(value) for name, value in options.items()}
    ctx = replace(ctx, _dataset=data, explicit={"method": texts}, preset=Preset.parse(preset))
    return prepare_method(ctx, method, ipc, seed)


def _images(ctx, data, method, **options):
    return distil(_prepared(ctx, data, method, **options)).content.images


@pytest.fixture(scope="module")
def store(tmp_path_factory, teachers):
    home = tmp_path_factory.mktemp("home")
    (home / "teacher").symlink_to(teachers)
    return Store(home)


@pytest.fixture
def ctx(ctx, store):
    """A context whose steps are made once."""
    return replace(ctx, store=store)


# Switched off -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_child_without_its_difference_is_its_parent(ctx, digits):
    def images(method, **options):
        return _images(ctx, digits, method, iterations=4, together="classes", jitter=4, **options)

    parent, cropped = images("sre2l"), images("sre2l", crop="true")
    cases = (
        ("cda", {"milestone": 0}, {"milestone": 1}, cropped),
        (
            "dwa",
            {"init": "noise", "adjustments": 0, "variance_weight": 1},
            {"init": "random", "adjustments": 12, "variance_weight": 11},
            parent,
        ),
        (
            "delt",
            {"init": "noise", "round": 4, "milestone": 0},
            {"init": "median", "round": 2, "milestone": 1},
            cropped,
        ),
    )
    for method, off, on, same in cases:
        assert np.array_equal(images(method, **off), same), method
        for name in off:
            assert not np.array_equal(images(method, **off | {name: on[name]}), same), (method, name)
    assert np.array_equal(images("delt", init="noise", round=4), images("cda"))


# CDA ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("curriculum", "half"), [("cosine", 0.54), ("linear", 0.54), ("step", 1.0)])
@pytest.mark.parametrize("milestone", [0.5, 1.0])
def test_crops_shrink_from_the_whole_image_to_8_percent(curriculum, half, milestone):
    areas = [smallest_area(curriculum, share * milestone, milestone) for share in (0, 0.5, 1)]
    assert areas == pytest.approx([1.0, half, 0.08])
    assert smallest_area(curriculum, 0.0, 0.0) == 0.08


def test_the_reported_area_of_crops_falls_from_the_whole_to_054():
    areas = []
    settings = replace(SETTINGS, iterations=50, crop=True, milestone=1.0)
    loop = Loop(progress=lambda done, total, figures=None: areas.append((figures or {}).get("crop")))
    sre2l.recover([_teacher()], [sre2l.Batch(LABELS)], settings, seed=1, loop=loop)
    reported = [area for area in areas if area is not None]
    assert len(reported) == 5
    assert reported[0] == pytest.approx(0.96, abs=0.01) and reported[-1] == pytest.approx(0.54, abs=0.01)
    assert reported == sorted(reported, reverse=True)


# DWA ----------------------------------------------------------------------------------------------------------------


def _cross_entropy(network, images):
    return nn.functional.cross_entropy(network(images), LABELS)


def test_the_adjustment_climbs_by_rho_at_most_and_can_be_put_back():
    network, images = _teacher(), IMAGES.clone().requires_grad_()
    before, loss = [weight.clone() for weight in network.parameters()], _cross_entropy(network, images).item()
    adjusted = AdjustedWeights(network, steps=12, radius=0.015)
    adjusted.climb(lambda: _cross_entropy(network, images), [images])
    moved = torch.cat([(new - old).flatten() for new, old in zip(network.parameters(), before, strict=True)]).norm()
    assert 0.014 < float(moved) <= 0.015 + 1e-6  # nearly straight
    assert _cross_entropy(network, images).item() > loss
    assert images.grad is None and not any(weight.requires_grad for weight in network.parameters())
    adjusted.reset()
    assert all(torch.equal(new, old) for new, old in zip(network.parameters(), before, strict=True))


def test_one_step_of_the_adjustment_is_the_normalised_gradient_of_all_weights():
    network, images = _teacher(), IMAGES.clone().requires_grad_()
    before = [weight.clone() for weight in network.parameters()]
    copy = _teacher().requires_grad_(True)
    _cross_entropy(copy, images).backward()
    gradients = [weight.grad for weight in copy.parameters()]
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    sums = AdjustedWeights(network, 1, 0.5).climb(lambda: _cross_entropy(network, images), [images])
    for new, old, gradient in zip(network.parameters(), before, gradients, strict=True):
        assert torch.allclose(new, old + 0.5 * gradient / length, atol=1e-6)
    assert torch.allclose(sums[0], images.grad)


def _weights_at_work(batches, **settings):
    """Return the weights of the first layer in each iteration, and at the end."""
    network, seen = _teacher(), []
    network.register_forward_hook(lambda *_: seen.append(network[0].weight.clone()))
    settings = replace(SETTINGS, iterations=2, adjustments=1, radius=0.1, **settings)
    found = sre2l.recover([network], batches, settings, seed=1)
    steps = [weights for number, weights in enumerate(seen) if number % 3]  # after one pass of adjustment each
    return steps, network[0].weight, found.images


def test_every_batch_is_recovered_by_the_original_teacher_adjusted_to_it():
    batches = [sre2l.Batch(LABELS, IMAGES), sre2l.Batch(LABELS, IMAGES.flip(0))]
    (one, again, two, _), last, _ = _weights_at_work(batches)
    original = _teacher()[0].weight
    assert torch.equal(one, again) and not torch.equal(one, two)
    assert torch.equal(last, original)
    first = float((one - original).norm())
    assert 0 < first <= 0.1 and 0 < float((two - original).norm()) <= 0.1


def test_adjustments_add_up_within_a_part_as_released():
    def distances(*parts):
        batches = [sre2l.Batch(LABELS, IMAGES, part=part) for part in parts]
        weights, last, _ = _weights_at_work(batches, jitter=(0, 0), add_adjustments=True)
        assert torch.equal(last, _teacher()[0].weight)
        return [float((weight - _teacher()[0].weight).norm()) for weight in weights]

    one, _, two, _ = distances(0, 0)
    assert two > 1.5 * one
    one, _, two, _ = distances(0, 1)
    assert two == pytest.approx(one)


def test_gradients_of_the_adjustment_count_in_adams_first_step_as_released():
    """Adam's first step goes by the sign, so the moments of the second step tell them."""
    batches = [sre2l.Batch(LABELS, IMAGES)]
    plain, added = (_weights_at_work(batches, add_gradients=add)[2] for add in (False, True))
    assert not torch.equal(plain, added)


def test_the_variance_weight_counts_variances_only():
    network, x = _teacher(), torch.randn(16, 3, 8, 8)
    losses = []
    for weight in (0.0, 1.0, 11.0):
        statistics = sre2l.Statistics(network, sre2l.Matching(first_bn=1.0, variance_weight=weight))
        network(x)
        losses.append(float(statistics.loss()))
        statistics.remove()
    # The running means of a new network are zero.
    means = sum(float(inputs.mean((0, 2, 3)).norm()) for inputs in (network[:1](x), network[:4](x)))
    assert losses[0] == pytest.approx(means, rel=1e-5)
    assert losses[2] - losses[0] == pytest.approx(11 * (losses[1] - losses[0]), rel=1e-4)


# DELT ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipc", "firsts"),
    [
        (10, [0, 0, 500, 500, 1000, 1500, 2000, 2500, 3000, 3500]),
        (8, [0, 500, 1000, 1500, 2000, 2500, 3000, 3500]),
        (1, [0]),
        (5, [0, 500, 1000, 1500, 2000]),
    ],
)
def test_images_are_spread_over_the_rounds_one_of_the_rest_in_each_of_the_first(ipc, firsts):
    assert first_iterations(ipc, 8, DeltOptions()) == firsts


def test_the_work_is_the_iterations_of_every_image(ctx, digits):
    method, mine, _ = _prepared(ctx, digits, "delt", ipc=10, iterations=8, round=1)
    assert method.work(mine) == 10 * (2 * 8 + 2 * 7 + 6 + 5 + 4 + 3 + 2 + 1)
    assert method.work(mine) == float((8 - method.starts(mine)).sum())
    method, mine, _ = _prepared(ctx, digits, "delt", ipc=10, iterations=8, round=8)
    assert method.work(mine) == 10 * 10 * 8


def test_rounds_of_a_class_may_be_drawn(ctx, digits):
    method, mine, _ = _prepared(ctx, digits, "delt", ipc=8, iterations=8, round=1, fewest=4)
    starts = method.starts(mine).view(10, 8)
    assert set(starts[:, 0].tolist()) <= {0, 1, 2, 3, 4} and len(set(starts[:, 0].tolist())) > 1
    assert (starts[:, -1] == 7).all()  # the last round is every class's last
    assert torch.equal(starts, method.starts(mine).view(10, 8))


def test_rounds_beyond_the_iterations_are_refused(ctx, digits):
    with pytest.raises(ddbench.UsageError, match="fewest=9 is more than iterations=8"):
        _prepared(ctx, digits, "delt", iterations=8, fewest=9)


def test_rounds_without_images_are_left_out():
    starts = torch.tensor([2, 2, 4, 4])
    batch = sre2l.Batch(LABELS, IMAGES, starts)
    assert batch.iterations(6) == 4 and batch.groups() == ([2, 2], [0, 2])
    shorter = sre2l.recover([_teacher()], [replace(batch, starts=starts - 2)], replace(SETTINGS, iterations=4), seed=1)
    assert torch.equal(sre2l.recover([_teacher()], [batch], SETTINGS, seed=1).images, shorter.images)


class _Kept:
    def __init__(self, kill_after=0):
        self.state, self.states, self.kill_after = None, [], kill_after

    def load(self):
        return self.state

    def save(self, state):
        import copy

        self.state = copy.deepcopy(state)
        self.states.append(self.state)
        if len(self.states) == self.kill_after:
            raise KeyboardInterrupt


def _states(settings, starts):
    kept = _Kept()
    batch = sre2l.Batch(LABELS, IMAGES, torch.tensor(starts))
    sre2l.recover([_teacher()], [batch], settings, seed=1, loop=Loop(checkpoint=kept, checkpoint_seconds=0))
    return [state["chunk"]["images"] for state in kept.states]


@pytest.mark.parametrize("shared", [False, True])
def test_waiting_images_do_not_move_and_the_batch_is_that_of_the_active_ones(shared):
    scaled = (IMAGES - torch.tensor(SETTINGS.mean).view(3, 1, 1)) / torch.tensor(SETTINGS.std).view(3, 1, 1)
    states = _states(replace(SETTINGS, shared_steps=shared), [0, 0, 3, 3])
    assert torch.equal(states[0][2:], states[2][2:]) and torch.allclose(states[2][2:], scaled[2:], atol=1e-5)
    assert not torch.equal(states[0][:2], states[1][:2])
    assert not torch.equal(states[2][2:], states[3][2:])
    # Until the others begin, it is as if they were not there.
    alone = sre2l.Batch(LABELS[:2], IMAGES[:2])
    kept = _Kept()
    sre2l.recover([_teacher()], [alone], SETTINGS, seed=1, loop=Loop(checkpoint=kept, checkpoint_seconds=0))
    assert torch.equal(kept.states[2]["chunk"]["images"], states[2][:2])


def test_a_late_group_begins_with_bias_correction_unless_steps_are_shared_as_released():
    """Its first step is the learning rate, or 0.5/√0.1 = 1.58 of it (Adam(.5, .9) after many steps)."""
    settings = replace(SETTINGS, iterations=81, lr=0.01, jitter=(0, 0))
    first = []
    for shared in (False, True):
        states = _states(replace(settings, shared_steps=shared), [0, 0, 40, 40])
        moved = (states[40][2:] - states[39][2:]).abs()
        first.append(float(moved.median()))
    rate = 0.01 * 0.5 * (1 + np.cos(np.pi * 40 / 81))
    assert first == pytest.approx([rate, rate * 0.5 / 0.1**0.5], rel=1e-2)


# Presets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("sre2l", {"iterations": 4000, "lr": 0.1, "bn_weight": 1.0, "jitter": 4, "jitter_centred": True}),
        ("cda", {"iterations": 4000, "lr": 0.4, "bn_weight": 0.05, "jitter": 4, "jitter_centred": False}),
        ("dwa", {"iterations": 2000, "lr": 0.1, "bn_weight": 0.01, "jitter": 4, "jitter_centred": False, "chunk": 200}),
        ("delt", {"iterations": 4000, "lr": 0.25, "bn_weight": 0.01, "jitter": 0, "jitter_centred": False}),
    ],
)
def test_paper_settings_of_tiny_imagenet(ctx, digits, method, values):
    """Only SRe2L rolls to both sides there; the others from 0, as everywhere."""
    options = _prepared(ctx, replace(digits, name="tiny-imagenet"), method, "paper")[1].options
    assert {name: getattr(options, name) for name in values} == values and options.crop


@pytest.mark.parametrize(("method", "constants"), [("sre2l", "cifar10"), ("dwa", "dataset"), ("delt", "cifar10")])
def test_official_constants_of_cifar100(ctx, digits, method, constants):
    data = replace(digits, name="cifar100")
    assert _prepared(ctx, data, method, "official")[1].options.normalisation == constants


# What they begin with -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "ranks"), [(11, [6, 7, 5, 8, 4, 9, 3, 10, 2, 1, 0]), (4, [2, 3, 1, 0]), (1, [0])])
def test_the_chosen_confidences_are_those_around_the_median_from_the_middle_outwards(size, ranks):
    """As the released code counts: the median of eleven is that of rank 6; the first chosen is optimised longest."""
    confidence = np.random.default_rng(0).permutation(np.arange(size)).astype(np.float32)
    for count in range(1, size + 1):
        assert list(confidence[around_median(confidence, count)]) == ranks[:count]


@pytest.mark.slow
def test_images_begin_as_real_ones_of_their_class(ctx, digits):
    pixels, labels = digits.arrays("train")
    known = {image.tobytes(): label for image, label in zip(pixels, labels, strict=True)}
    found = {}
    for init in ("random", "median", "rded"):
        method, mine, _ = _prepared(ctx, digits, "dwa", init=init, seed=1)
        images = method.initial(mine).permute(0, 2, 3, 1).numpy()
        assert images.shape == (20, 16, 16, 1)
        found[init] = images
        if init != "rded":
            assert [known[image.tobytes()] for image in images] == [label for label in range(10) for _ in range(2)]
    assert len({images.tobytes() for images in found.values()}) == 3
    assert np.array_equal(found["rded"], distil(_prepared(ctx, digits, "rded", seed=1)).content.images)


def test_rdeds_own_options_are_of_its_images_and_of_the_key(ctx, digits):
    def identity(**explicit):
        run = replace(ctx, _dataset=digits, explicit={"method": {"init": "rded", "iterations": "3"}, **explicit})
        method, mine, _ = prepare_method(run, "delt", 2, 0)
        return method.identity(mine), [call.key for call in method.needs(mine)]

    plain, other = identity(), identity(**{"method/rded": {"pool": "20"}})
    assert plain[0]["rded"]["pool"] == 300 and other[0]["rded"]["pool"] == 20
    assert plain[1][0] == other[1][0] and plain[1][1] != other[1][1]  # the teacher, RDED's images


def test_medians_are_shared_by_the_methods_and_not_by_teachers(ctx, digits):
    def key(method, **options):
        plugin, mine, _ = _prepared(ctx, digits, method, init="median", **options)
        return plugin.needs(mine)[1].key

    assert key("dwa") == key("delt") == key("delt", lr=1) == key("delt", seed=3)
    assert key("delt") != key("delt", network="resnet-18-bn")


# Resuming and presets -----------------------------------------------------------------------------------------------

RICH = {
    "dwa": {"adjustments": 2, "radius": 0.5, "add_gradients": True, "add_adjustments": True, "variance_weight": 3.0},
    "delt": {"crop": True, "milestone": 1.0, "shared_steps": True},
}


@pytest.mark.parametrize("kill_after", [1, 3, 5, 6, 7, 10])
@pytest.mark.parametrize("name", RICH)
def test_a_killed_recovery_ends_with_the_same_images(name, kill_after):
    settings = replace(SETTINGS, **RICH[name])
    starts = torch.tensor([0, 0, 2, 3]) if name == "delt" else None
    batches = [sre2l.Batch(LABELS, IMAGES, starts), sre2l.Batch(LABELS, IMAGES.flip(0), starts)]
    undisturbed = sre2l.recover([_teacher()], batches, settings, seed=1)
    kept = _Kept(kill_after)
    with pytest.raises(KeyboardInterrupt):
        sre2l.recover([_teacher()], batches, settings, seed=1, loop=Loop(checkpoint=kept, checkpoint_seconds=0))
    kept.kill_after = 0
    found = sre2l.recover([_teacher()], batches, settings, seed=1, loop=Loop(checkpoint=kept, checkpoint_seconds=0))
    assert torch.equal(found.images, undisturbed.images)
    assert found.losses == undisturbed.losses


@pytest.mark.parametrize(
    ("method", "data", "values"),
    [
        ("cda", "tiny-imagenet", {"iterations": 4000, "lr": 0.4, "bn_weight": 0.05, "jitter": 4, "milestone": 1.0}),
        ("cda", "imagenet-1k", {"iterations": 4000, "lr": 0.25, "bn_weight": 0.01, "jitter": 32, "crop": True}),
        ("dwa", "cifar10", {"iterations": 1000, "lr": 0.25, "variance_weight": 11, "adjustments": 12, "crop": False}),
        ("dwa", "tiny-imagenet", {"iterations": 2000, "lr": 0.1, "bn_weight": 0.01, "chunk": 200, "crop": True}),
        ("dwa", "imagenet-1k", {"iterations": 2000, "lr": 0.25, "variance_weight": 2, "adjustments": 15, "jitter": 32}),
        ("delt", "cifar10", {"iterations": 4000, "round": 500, "jitter": 0, "lr": 0.25, "together": "class"}),
        ("delt", "tiny-imagenet", {"iterations": 4000, "round": 500, "jitter": 0, "lr": 0.25, "bn_weight": 0.01}),
        ("delt", "imagenet-1k", {"iterations": 4000, "round": 500, "jitter": 0, "crop": True, "init": "median"}),
    ],
)
def test_paper_settings(ctx, digits, method, data, values):
    options = _prepared(ctx, replace(digits, name=data), method, "paper")[1].options
    assert {name: getattr(options, name) for name in values} == values
    assert options.network == ("resnet-18-bn" if data == "imagenet-1k" else "modified-resnet-18")


def test_quirks_are_those_of_official(ctx, digits):
    names = {"dwa": ("add_gradients", "add_adjustments", "jpeg"), "delt": ("shared_steps", "jpeg")}
    for method, quirks in names.items():
        sane, official = (_prepared(ctx, digits, method, preset)[1].options for preset in ("", "official"))
        assert not any(getattr(sane, name) for name in quirks)
        assert all(getattr(official, name) for name in quirks)
        assert sane.together == official.together
