"""KIP and Label Solve (Nguyen et al. 2021, KIP.ipynb)."""

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
from ddbench_plugins.kernels.fully_connected import Kernel  # noqa: E402
from ddbench_plugins.kernels.images import rows  # noqa: E402
from ddbench_plugins.kernels.ridge import centred, regularised, solve  # noqa: E402
from ddbench_plugins.matching.images import RealImages, initial_images  # noqa: E402
from ddbench_plugins.methods.kernel.inducing import InducingPoints  # noqa: E402
from ddbench_plugins.methods.kernel.support import Support  # noqa: E402

TOY = toy_dataset(channels=3)


def _prepared(ctx, name, data=TOY, ipc=2, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, name, ipc, 0)


def _accuracy(ctx, data, made):
    return evaluate(prepare_evaluator(replace(ctx, _dataset=data), "krr", "", made.ipc), made, repeats=1).result.last[0]


def _work(data=TOY, ipc=2, learn_labels=True):
    real = RealImages(data)
    begun = initial_images(real, ipc, "real", 3).double()
    support = Support(begun, ipc, lambda learned: torch.optim.Adam(learned, 0.04), learn_labels=learn_labels)
    return InducingPoints(support, real, Kernel(), 1e-6, 9, 5)


def test_gradients_by_pixels_and_labels_are_those_of_differences():
    work = _work()
    images, labels = work.real.at(torch.arange(0, 36, 4)), torch.arange(9) // 3
    work.loss(images, labels).backward()
    for values in (work.support.images, work.support.targets):
        flat, slope = values.detach().view(-1), values.grad.flatten()
        for place in (0, 5, len(flat) - 1):
            sides = []
            for step in (1e-6, -2e-6):
                flat[place] += step
                sides.append(float(work.loss(images, labels).detach()))
            flat[place] += 1e-6
            assert float(slope[place]) == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-8)


def test_a_step_is_one_of_adam_on_the_error_of_the_regression():
    work = _work(learn_labels=False)
    begun = work.support.images.detach().clone()
    work.step(0)
    moved = (work.support.images.detach() - begun).abs()
    assert float(moved.max()) == pytest.approx(0.04, rel=1e-4)  # Adam's first step is its rate
    assert torch.equal(work.support.targets, centred(work.support.labels, 3))
    assert torch.equal(work.support.images.double(), work.support.images)


def test_resumed_work_ends_where_undisturbed_work_does():
    whole, first, second = _work(), _work(), _work()
    for number in range(4):
        whole.step(number)
    for number in range(2):
        first.step(number)
    second.restore(first.state())
    for number in (2, 3):
        second.step(number)
    assert torch.equal(whole.support.images, second.support.images)
    assert torch.equal(whole.support.targets, second.support.targets)


@pytest.mark.parametrize("learn_labels", [True, False])
def test_kip_improves_on_the_images_it_begins_with(ctx, digits, learn_labels):
    options = {"iterations": 40, "targets": 500, "learn_labels": learn_labels}
    made = distil(_prepared(ctx, "kip", digits, 1, **{name: str(value) for name, value in options.items()}))
    start = distil(_prepared(ctx, "random", digits, 1))
    assert _accuracy(ctx, digits, made) > _accuracy(ctx, digits, start) + 0.1
    assert made.content.space == "normalized"
    assert made.content.label_kind == ("centred" if learn_labels else "probabilities")
    assert (made.content.soft_labels is None) == (not learn_labels)


def test_kip_with_fixed_labels_is_a_set_for_any_protocol(ctx):
    made = distil(_prepared(ctx, "kip", iterations="2"))
    assert (
        evaluate(
            prepare_evaluator(
                replace(ctx, _dataset=TOY, explicit={"evaluator": {"epochs": "1"}}), "dc", "convnet-1", 2
            ),
            made,
            repeats=1,
        ).result.last[0]
        >= 0
    )


@pytest.mark.parametrize("reg", ["trace", "absolute"])
def test_solved_labels_are_the_least_squares_solution_of_the_whole_training_set(ctx, reg):
    made = distil(_prepared(ctx, "ls", reg=reg))
    start = distil(_prepared(ctx, "random"))
    assert (made.content.images == start.content.images).all()
    assert made.content.source_ids == start.content.source_ids
    mine = replace(ctx, _dataset=TOY)
    images, classes = TOY.arrays("train")
    support, targets = (
        rows(torch.tensor(pixels.transpose(0, 3, 1, 2)), mine) for pixels in (made.content.images, images)
    )
    kernel, wanted = Kernel(), centred(torch.tensor(classes), 3)
    own = regularised(kernel(support, support), 1e-6)
    predict = solve(own, kernel(support, targets)).T  # K_ts (K_ss + ridge)⁻¹
    rest = predict @ torch.tensor(made.content.soft_labels).double() - wanted
    one_hot = predict @ centred(torch.tensor(made.content.labels), 3) - wanted
    assert float((predict.T @ rest).abs().max()) < 1e-3 * float((predict.T @ one_hot).abs().max())
    assert float(rest.square().mean()) < float(one_hot.square().mean())
    assert _accuracy(ctx, TOY, made) >= _accuracy(ctx, TOY, start)


def test_one_class_and_one_image_per_class(ctx):
    one = TOY.train.of_class(0)
    split = ddbench.Split(
        ddbench.ArrayImages(TOY.train.images.batch(one.tolist(), 8)),
        np.zeros(len(one), np.int64),
        tuple("abcdefghijkl"),
    )
    data = replace(TOY, class_names=("rows",), class_ids=("rows",), train=split, test=split, fingerprint="one class")
    for name, options in (("ls", {}), ("kip", {"iterations": "2", "learn_labels": "true"})):
        made = distil(_prepared(ctx, name, data, 1, **options))
        assert made.content.images.shape == (1, 8, 8, 3)
        with pytest.raises(ddbench.UsageError, match="has one class"):  # every answer would be right
            _accuracy(ctx, data, made)


def test_a_rate_that_is_too_high_is_reported(ctx):
    with pytest.raises(ddbench.DivergedError, match="is not finite"):
        distil(_prepared(ctx, "kip", lr_img="1e200", iterations="3"))


def test_the_same_images_twice_with_no_ridge_are_named(ctx):
    first = TOY.train.images.batch([0, 12, 24], 8).repeat(2, 0)
    split = ddbench.Split(ddbench.ArrayImages(first), np.repeat(np.arange(3), 2), tuple("abcdef"))
    data = replace(TOY, train=split, fingerprint="pairs")
    with pytest.raises(ddbench.DataError, match="kernel matrix of 6 images is singular"):
        distil(_prepared(ctx, "kip", data, ridge="0", iterations="1"))


def test_settings_by_preset(ctx):
    paper, cpu = _prepared(ctx, "kip", preset="paper")[1], _prepared(ctx, "kip")[1]
    assert (paper.options.iterations, paper.options.targets, paper.options.lr_img) == (1000, 5000, 0.04)
    assert [name for name, _, _ in cpu.resolved.shrunk] == ["iterations"]
    assert _prepared(ctx, "ls")[1].options.reg == "trace"
    assert _prepared(ctx, "ls", preset="official")[1].options.reg == "absolute"


@pytest.mark.parametrize(("name", "options"), [("kip", {"iterations": 2, "learn_labels": True}), ("ls", {})])
def test_they_conform(ctx, name, options):
    check_method(ctx.plugins.get("method", name).spec, options=options)


@pytest.mark.parametrize("name", ["kip", "ls"])
def test_a_run_that_names_no_protocol_takes_the_regression(ctx, name):
    assert _prepared(ctx, name)[1].resolved.experiment["eval"][0] == "krr"
