"""DM: matching mean features in random networks (Zhao and Bilen 2023, main_DM.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.sets.folder import copy
from ddbench.testing.conformance import check_method

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.draws import draw_view  # noqa: E402
from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images  # noqa: E402
from ddbench_plugins.methods.dm.matching import DistributionMatching, Matching  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402
from ddbench_plugins.training.dsa import STRATEGY  # noqa: E402
from ddbench_plugins.training.seeding import make_generator  # noqa: E402

SETTINGS = Matching(batch_real=20, strategy=STRATEGY, bn_joint=True, precision="fp32", seed=5)


@pytest.fixture(scope="module")
def real(digits):
    return RealImages(digits)


def _network(norm="instance"):
    def make(number):
        torch.manual_seed(number)
        network = convnet.build(in_channels=1, image_size=16, num_classes=10, depth=2, width=8, norm=norm)
        return network.to(memory_format=torch.channels_last).train()

    return make


def _work(real, ipc=2, norm="instance", **settings):
    images = SyntheticImages(initial_images(real, ipc, "real", 3), ipc, 1.0)
    return DistributionMatching(images, real, _network(norm), replace(SETTINGS, **settings))


def _class_by_class(real, images, ipc, steps):
    """The released loop, in this file's own words: one class after the other, nothing shared but the draws."""
    x = images.clone().requires_grad_()
    sgd = torch.optim.SGD([x], lr=1.0, momentum=0.5)
    losses = []
    for number in range(steps):
        network = _network()(number)
        total = 0.0
        for label in range(10):
            generator = make_generator(SETTINGS.seed, number + 1, label + 1)
            batch = real.draw(label, 20, generator)
            view = draw_view(16, generator, STRATEGY)
            features = network.embed(view(batch)).detach().mean(0)
            total = total + (features - network.embed(view(x[label * ipc : (label + 1) * ipc])).mean(0)).pow(2).sum()
        sgd.zero_grad()
        total.backward()
        sgd.step()
        losses.append(float(total.detach()))
    return x.detach(), losses


@pytest.mark.parametrize("together", [512, 6, 1])
def test_classes_in_one_pass_give_what_the_loop_over_classes_gives(real, together):
    work = _work(real, ipc=2, together=together)
    wanted, losses = _class_by_class(real, work.images.images.detach(), 2, steps=3)
    found = [work.step(number) for number in range(3)]
    assert found == pytest.approx(losses, rel=1e-4)
    moved = (wanted - initial_images(real, 2, "real", 3)).abs().max()
    assert float((work.images.images.detach() - wanted).abs().max()) < 1e-3 * float(moved)


def test_the_loss_is_zero_where_synthetic_images_are_the_real_ones(real):
    generators = [make_generator(SETTINGS.seed, 1, label + 1) for label in range(10)]
    same = torch.cat([real.draw(label, 20, generator) for label, generator in enumerate(generators)])
    work = _work(real)
    work.images = SyntheticImages(same, 20, 1.0)
    assert work.step(0) == pytest.approx(0, abs=1e-6)
    work.images = SyntheticImages(same + 0.5 * torch.randn(same.shape), 20, 1.0)
    assert work.step(0) > 0.01


def test_batch_norm_sees_all_classes_unless_told_otherwise(real):
    joint = float(_work(real, norm="batch").step(0))
    assert joint == _work(real, norm="batch", together=1).step(0)
    assert joint != pytest.approx(float(_work(real, norm="batch", bn_joint=False).step(0)), rel=1e-3)
    assert _work(real).step(0) == _work(real, bn_joint=False).step(0)


def test_matching_brings_the_features_together(real):
    work = _work(real)
    work.images = SyntheticImages(initial_images(real, 2, "noise", 3), 2, 1.0)
    losses = [work.step(number) for number in range(40)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_bfloat16_goes_the_same_way(real):
    exact, rough = _work(real), _work(real, precision="bf16")
    begun = exact.images.images.detach().clone()
    exact.step(0), rough.step(0)
    ways = [(work.images.images.detach() - begun).flatten() for work in (exact, rough)]
    assert float(torch.cosine_similarity(*ways, dim=0)) > 0.99


def _prepared(ctx, data, ipc=2, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, "dm", ipc, 0)


def test_settings_of_the_paper_and_what_the_cpu_scale_shrinks(ctx, digits):
    cifar = replace(digits, name="cifar10", image_size=32)
    paper = _prepared(ctx, cifar, preset="paper")[1].options
    assert (paper.network, paper.iterations, paper.batch_real, paper.lr_img) == ("convnet-3", 20000, 256, 1.0)
    assert (paper.init, paper.augment, paper.bn_joint, paper.extra_iteration) == ("real", "dsa", True, False)
    assert _prepared(ctx, cifar, ipc=100, preset="paper")[1].options.lr_img == 10
    assert _prepared(ctx, cifar, preset="official")[1].options.extra_iteration
    shrunk = _prepared(ctx, cifar)[1].resolved.shrunk
    assert {name for name, _, _ in shrunk} == {"network", "iterations", "batch_real"}
    assert _prepared(ctx, cifar, snapshots="[10]")[1].resolved.shrunk == shrunk  # asks for more, shrinks nothing
    tiny = replace(digits, name="tiny-imagenet", image_size=64)
    assert _prepared(ctx, tiny, preset="paper")[1].options.network == "convnet-4"


def test_a_snapshot_that_is_never_reached_is_refused(ctx, digits):
    with pytest.raises(ddbench.UsageError, match="snapshot of iteration 50"):
        _prepared(ctx, digits, iterations="20", snapshots="[10, 50]")


def test_a_snapshot_is_what_a_shorter_run_ends_with(ctx, digits, tmp_path):
    some = {"batch_real": "16", "network": "convnet-1"}
    longer = distil(_prepared(ctx, digits, preset="official", iterations="5", snapshots="[3]", **some))
    shorter = distil(_prepared(ctx, digits, iterations="3", **some))
    copy(longer.path, tmp_path / "copy")
    kept = ddbench.load(tmp_path / "copy" / "snapshots" / "000003")
    assert kept.about["digest"] == shorter.digest != longer.digest
    assert kept.about["method"]["options"] == shorter.plugin.options
    assert kept.about["method"]["options"]["iterations"] == 3
    assert ["method.iterations", 20000, 3] in kept.about["shrunk"]
    assert longer.content.space == "normalized"


def test_the_last_iteration_is_the_result_and_no_snapshot(ctx, digits):
    made = distil(_prepared(ctx, digits, iterations="3", snapshots="[2, 3]", batch_real="16", network="convnet-1"))
    assert [path.name for path in (made.path / "snapshots").iterdir()] == ["000002"]


def test_snapshots_belong_to_a_method_that_distils(ctx, digits):
    with pytest.raises(RuntimeError, match="while a method distils"):
        ctx.keep("000001", SyntheticImages(torch.zeros(10, 1, 16, 16), 1, 1.0).distilled())


def test_it_conforms(ctx):
    spec = ctx.plugins.get("method", "dm").spec
    check_method(spec, options={"iterations": 2, "batch_real": 4, "network": "convnet-1"})
