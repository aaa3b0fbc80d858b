"""DC and DSA: matching gradients (Zhao et al. 2021; Zhao and Bilen 2021; main.py, utils.py)."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from ddbench.experiment.pipeline import prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_method

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.distances import distance  # noqa: E402
from ddbench_plugins.matching.draws import batch_norms, draw_view  # noqa: E402
from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images  # noqa: E402
from ddbench_plugins.matching.optimise import run  # noqa: E402
from ddbench_plugins.methods.dc.matching import _MATCHING, GradientMatching, Matching  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402
from ddbench_plugins.training.dsa import STRATEGY  # noqa: E402
from ddbench_plugins.training.engine import Loop  # noqa: E402
from ddbench_plugins.training.seeding import make_generator  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

SETTINGS = Matching(
    outer=3,
    inner=2,
    batch_real=12,
    batch_train=8,
    lr_net=0.01,
    metric="rows",
    strategy=STRATEGY,
    joint_step=False,
    precision="fp32",
    seed=5,
)


@pytest.fixture(scope="module")
def real(digits):
    return RealImages(digits)


def _network(number, norm="instance"):
    torch.manual_seed(number)
    network = convnet.build(in_channels=1, image_size=16, num_classes=10, depth=2, width=8, norm=norm)
    return network.to(memory_format=torch.channels_last).train()


def _work(real, ipc=1, norm="instance", init="noise", **settings):
    images = SyntheticImages(initial_images(real, ipc, init, 3), ipc, 0.1)
    return GradientMatching(images, real, lambda number: _network(number, norm), replace(SETTINGS, **settings))


def _whole_graph(real, images, ipc, metric):
    """One step of the released loop, in this file's own words: all classes in one graph, all parameters."""
    x = images.clone().requires_grad_()
    network, total = _network(0), 0.0
    for label in range(10):
        generator = make_generator(SETTINGS.seed, _MATCHING, 1, label + 1)
        batch = real.draw(label, 12, generator)
        view = draw_view(16, generator, STRATEGY)
        mine = x[label * ipc : (label + 1) * ipc]
        gradients = [
            torch.autograd.grad(
                cross_entropy(network(view(each)), torch.full((len(each),), label)),
                list(network.parameters()),
                create_graph=True,
            )
            for each in (batch, mine)
        ]
        total = total + distance(metric, [g.detach() for g in gradients[0]], gradients[1])
    total.backward()
    return x.detach() - 0.1 * x.grad, float(total.detach())


@pytest.mark.parametrize("metric", ["rows", "mse", "cos"])
@pytest.mark.parametrize("joint_step", [False, True])
def test_classes_one_by_one_give_what_one_graph_gives(real, metric, joint_step):
    work = _work(real, ipc=2, metric=metric, joint_step=joint_step, outer=1)
    begun = work.images.images.detach().clone()
    wanted, loss = _whole_graph(real, begun, 2, metric)
    assert work.step(0) == pytest.approx(loss / 10, rel=1e-4)
    moved = float((wanted - begun).abs().max())
    assert moved > 0
    assert float((work.images.images.detach() - wanted).abs().max()) < 1e-3 * moved


def test_networks_are_trained_between_matching_steps_but_not_after_the_last(real):
    work = _work(real)
    weights = []
    for number in range(4):
        before = copy.deepcopy(work.network.state_dict()) if work.network is not None else None
        work.step(number)
        weights.append((before, {name: value.clone() for name, value in work.network.state_dict().items()}))

    def changed(a, b):
        return any(not torch.equal(a[name], b[name]) for name in a)

    assert changed(weights[0][1], _network(0).state_dict())
    assert changed(weights[1][1], weights[1][0])
    assert not changed(weights[2][1], weights[2][0])  # thrown away now
    assert changed(weights[3][1], weights[2][1])


def test_one_matching_step_per_network_never_trains_it(real):
    work = _work(real, outer=1)
    work.step(0)
    assert all(torch.equal(a, b) for a, b in zip(work.network.parameters(), _network(0).parameters(), strict=True))


def test_training_lowers_the_loss_on_the_synthetic_images(real):
    work = _work(real, inner=60, init="real", strategy=())
    images, labels = work.images.images.detach(), work.images.labels
    work.step(0)
    with torch.no_grad():
        losses = [float(cross_entropy(network(images), labels)) for network in (_network(0), work.network)]
    assert losses[1] < losses[0] - 0.05


def test_batch_norms_take_statistics_of_real_images_and_are_frozen(real):
    work = _work(real, norm="batch", outer=1)
    work.step(0)
    norms = batch_norms(work.network)
    assert norms and not any(norm.training for norm in norms)
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms)
    trained = _work(real, norm="batch")
    trained.step(0)
    assert all(norm.training for norm in batch_norms(trained.network))


@pytest.mark.parametrize("kill_after", [1, 2, 3, 5])
def test_a_killed_run_ends_with_the_same_images(real, kill_after):
    class Memory:
        state, saves = None, 0

        def load(self):
            return self.state

        def save(self, state):
            Memory.state = copy.deepcopy(state)
            Memory.saves += 1
            if Memory.saves == kill_after:
                raise KeyboardInterrupt

    undisturbed = _work(real)
    run(undisturbed, 6)
    with pytest.raises(KeyboardInterrupt):
        run(_work(real), 6, Loop(checkpoint=Memory(), checkpoint_seconds=0))
    resumed = _work(real)
    run(resumed, 6, Loop(checkpoint=Memory(), checkpoint_seconds=0))
    assert torch.equal(resumed.images.images, undisturbed.images.images)


def test_bfloat16_goes_the_same_way(real):
    exact, rough = (_work(real, init="real", precision=precision, outer=1) for precision in ("fp32", "bf16"))
    begun = exact.images.images.detach().clone()
    exact.step(0), rough.step(0)
    ways = [(work.images.images.detach() - begun).flatten() for work in (exact, rough)]
    assert float(torch.cosine_similarity(*ways, dim=0)) > 0.95


def _prepared(ctx, data, ipc=10, preset="", method="dc", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, method, ipc, 0)


@pytest.mark.parametrize(
    ("ipc", "loops"), [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (30, (30, 20)), (40, (40, 15)), (50, (50, 10))]
)
def test_loops_by_budget(ctx, digits, ipc, loops):
    for preset in ("", "paper", "paper+official"):
        options = _prepared(ctx, digits, ipc, preset)[1].options
        assert (options.outer, options.inner) == loops  # structure: no scale shrinks it


def test_settings_of_the_papers_and_what_the_cpu_scale_shrinks(ctx, digits):
    cifar = replace(digits, name="cifar10", image_size=32)
    dc, dsa = (_prepared(ctx, cifar, preset="paper", method=name)[1].options for name in ("dc", "dsa"))
    assert (dc.network, dc.iterations, dc.batch_real, dc.batch_train) == ("convnet-3", 1000, 256, 256)
    assert (dc.lr_img, dc.lr_net, dc.metric, dc.joint_step) == (0.1, 0.01, "rows", False)
    assert (dc.init, dc.augment) == ("noise", "none")
    assert (dsa.init, dsa.augment) == ("real", "dsa")
    assert dsa.model_dump(exclude={"init", "augment"}) == dc.model_dump(exclude={"init", "augment"})
    official = _prepared(ctx, cifar, preset="paper+official")[1].options
    assert (official.joint_step, official.extra_iteration) == (True, True)
    assert {name for name, _, _ in _prepared(ctx, cifar)[1].resolved.shrunk} == {"network", "iterations", "batch_real"}


@pytest.mark.parametrize("method", ["dc", "dsa"])
def test_they_conform(ctx, method):
    small = {"iterations": 2, "outer": 2, "inner": 2, "network": "convnet-1", "batch_real": 4}
    made = check_method(ctx.plugins.get("method", method).spec, options=small)
    assert made.images.shape == (6, 8, 8, 1)
    assert made.space == "normalized"
    assert made.extra["loss"] > 0
