"""SRe2L's recovery: its loss, its ranges, its resumption (Yin et al. 2023, recover/)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ddbench_plugins.training.engine import Loop

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset

torch = pytest.importorskip("torch")
from ddbench_plugins.methods.sre2l import recover as sre2l  # noqa: E402
from torch import nn  # noqa: E402

SETTINGS = sre2l.Recovery(
    iterations=6,
    lr=0.1,
    bn_weight=0.01,
    first_bn=10.0,
    jitter=(0, 2),
    crop=True,
    flip=True,
    tv_weight=1e-4,
    l2_weight=1e-5,
    size=8,
    channels=3,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)
CHUNKS = [sre2l.Batch(torch.tensor([0, 1, 2])), sre2l.Batch(torch.tensor([2, 1]))]


def _teacher() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(5 * 16, 3)).eval().requires_grad_(False)


def test_the_distance_of_the_networks_own_statistics_is_zero():
    network, x = _teacher(), torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        inputs = x
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var, layer.running_mean = torch.var_mean(inputs, dim=(0, 2, 3), correction=0)
            inputs = layer(inputs)
    statistics = sre2l.Statistics(network, sre2l.Matching())
    network(x)
    assert float(statistics.loss()) == pytest.approx(0, abs=1e-4)
    network(2 * x)
    assert float(statistics.loss()) > 1
    statistics.remove()
    assert not any(norm._forward_pre_hooks for norm in network.modules())


def test_the_first_batch_norm_counts_ten_times_and_norms_are_not_squared():
    network, x = _teacher(), torch.randn(16, 3, 8, 8)
    inputs = network[0](x)
    first = (inputs.var((0, 2, 3), unbiased=False) - 1).norm() + inputs.mean((0, 2, 3)).norm()
    second = network[3](network[2](network[1](inputs)))
    second = (second.var((0, 2, 3), unbiased=False) - 1).norm() + second.mean((0, 2, 3)).norm()
    statistics = sre2l.Statistics(network, sre2l.Matching())
    network(x)
    assert float(statistics.loss()) == pytest.approx(float(10 * first + second), rel=1e-5)
    statistics.remove()


def test_pixels_stay_valid_and_every_chunk_reports_its_loss():
    found = sre2l.recover([_teacher()], CHUNKS, SETTINGS, seed=1)
    assert found.images.shape == (5, 3, 8, 8)
    assert found.images.min() >= -1e-6
    assert found.images.max() <= 1 + 1e-6
    assert [sorted(each) for each in found.losses] == [["bn", "ce", "l2", "tv"]] * 2


def test_images_become_what_the_labels_ask_for():
    settings = replace(SETTINGS, iterations=150, crop=False, flip=False, jitter=(0, 0), bn_weight=0.0)
    network = _teacher()
    found = sre2l.recover([network], CHUNKS[:1], settings, seed=1)
    scale = torch.tensor(SETTINGS.std).view(1, 3, 1, 1), torch.tensor(SETTINGS.mean).view(1, 3, 1, 1)
    assert network((found.images - scale[1]) / scale[0]).argmax(1).tolist() == [0, 1, 2]


class _Memory:
    def __init__(self, kill_after: int = 0) -> None:
        self.state, self.saves, self.kill_after = None, 0, kill_after

    def load(self):
        return self.state

    def save(self, state) -> None:
        import copy

        self.state = copy.deepcopy(state)
        self.saves += 1
        if self.saves == self.kill_after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kill_after", [1, 6, 7, 9])
def test_a_killed_recovery_ends_with_the_same_images(kill_after):
    undisturbed = sre2l.recover([_teacher()], CHUNKS, SETTINGS, seed=1)
    memory = _Memory(kill_after)
    with pytest.raises(KeyboardInterrupt):
        sre2l.recover([_teacher()], CHUNKS, SETTINGS, seed=1, loop=Loop(checkpoint=memory, checkpoint_seconds=0))
    found = sre2l.recover([_teacher()], CHUNKS, SETTINGS, seed=1, loop=Loop(checkpoint=memory, checkpoint_seconds=0))
    assert torch.equal(found.images, undisturbed.images)
    assert found.losses == undisturbed.losses


def test_total_variation_of_a_ramp():
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    # 12 horizontal differences of 1, none vertical, 9 on each diagonal.
    assert float(sre2l.total_variation(ramp)) == pytest.approx(12**0.5 + 0 + 3 + 3)


def _prepared(ctx, data, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, "sre2l", 2, 0)


def test_a_teacher_without_batch_norm_is_refused(ctx, digits):
    with pytest.raises(ddbench.UsageError, match="batch-norm statistics"):
        distil(_prepared(ctx, digits, network="convnet-1"))


def test_official_recovers_one_image_of_each_class_at_a_time(ctx, digits):
    official = _prepared(ctx, digits, "official")[1].options
    assert (official.together, official.jpeg) == ("classes", True)
    sane = _prepared(ctx, digits)[1].options
    assert (sane.together, sane.jpeg, sane.iterations, sane.lr, sane.bn_weight) == ("set", False, 1000, 0.25, 0.01)


@pytest.mark.parametrize("name", ["cifar100", "tiny-imagenet"])
def test_official_takes_the_constants_of_the_released_teacher(ctx, digits, name):
    data = replace(digits, name=name)
    wanted = {"cifar100": "cifar10"}.get(name, name)
    assert _prepared(ctx, data, "official")[1].options.normalisation == wanted
    assert _prepared(ctx, data)[1].options.normalisation == "dataset"


@pytest.mark.slow
@pytest.mark.usefixtures("shared_teachers")
def test_on_digits(ctx, digits):
    made = distil(_prepared(ctx, digits, iterations="60"))
    assert made.content.images.shape == (20, 16, 16, 1)
    assert made.content.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert made.content.extra["losses"][0]["ce"] < 1.0
