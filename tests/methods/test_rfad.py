"""RFAD: ridge regression on the features of new random networks (Loo et al. 2022, distillation.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.kernels.random_features import RandomConvNets  # noqa: E402
from ddbench_plugins.matching.images import RealImages, initial_images  # noqa: E402
from ddbench_plugins.methods.rfad.adabelief import AdaBelief  # noqa: E402
from ddbench_plugins.methods.rfad.distiller import held_out_places  # noqa: E402
from ddbench_plugins.methods.rfad.regression import RandomFeatureRegression, Settings  # noqa: E402
from ddbench_plugins.methods.rfad.support import Rates, TransformedSupport  # noqa: E402
from ddbench_plugins.methods.rfad.validation import Validated  # noqa: E402

TOY = toy_dataset(channels=3)
RATES = Rates(lr_img=0.01, lr_transform=1e-3, lr_scale=0.05)
QUICK = {"iterations": "2", "networks": "2", "width": "8", "batch_real": "9"}


def _work(ipc=2, rates=RATES, learn_labels=True, loss="platt"):
    real = RealImages(TOY)
    support = TransformedSupport(initial_images(real, ipc, "real", 3), ipc, rates, learn_labels=learn_labels)
    settings = Settings(batch_real=9, ridge=5e-3, loss=loss, precision="fp32", seed=5)
    labels, places = torch.tensor(TOY.train.labels), torch.arange(36)
    return RandomFeatureRegression(support, real, labels, places, RandomConvNets(2, 2, 8), settings)


def _prepared(ctx, data=TOY, ipc=2, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, "rfad", ipc, 0)


def test_adabelief_is_the_recursion_of_its_paper():
    x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimiser, mean, spread, expected = AdaBelief([x], 0.1), np.zeros(2), np.zeros(2), np.array([1.0, -2.0])
    for number in range(1, 6):
        gradient = np.array([np.sin(number), 2.0 + number])
        x.grad = torch.tensor(gradient)
        optimiser.step()
        mean = 0.9 * mean + 0.1 * gradient
        spread = 0.999 * spread + 0.001 * (gradient - mean) ** 2 + 1e-16
        expected -= 0.1 * mean / (1 - 0.9**number) / (np.sqrt(spread / (1 - 0.999**number)) + 1e-16)
    assert x.detach().numpy() == pytest.approx(expected, rel=1e-10)


def test_the_identity_that_is_not_learned_is_no_matrix_at_all():
    frozen, without = _work(rates=replace(RATES, lr_transform=1e-30)), _work(rates=replace(RATES, lr_transform=0.0))
    for number in range(3):
        frozen.step(number), without.step(number)
    torch.testing.assert_close(frozen.support.shown, without.support.shown, rtol=1e-4, atol=1e-5)
    assert without.support.transform is None


def test_a_matrix_that_is_learned_changes_all_images():
    work = _work()
    work.step(0)
    assert not torch.equal(work.support.transform.detach(), torch.eye(192))
    assert not torch.equal(work.support.shown, work.support.images.detach())
    assert torch.equal(torch.from_numpy(work.support.distilled().images).permute(0, 3, 1, 2), work.support.shown)


@pytest.mark.parametrize("loss", ["platt", "mse"])
def test_gradients_are_those_of_differences(loss):
    work = _work(loss=loss)
    support = work.support
    drawn = [
        [(weight.double(), bias.double()) for weight, bias in layers] for layers in work.networks.draw(3, "cpu", 1)
    ]
    for name in ("images", "targets", "transform", "scale"):
        setattr(support, name, getattr(support, name).detach().double().requires_grad_())
    work.real.at = lambda chosen, at=work.real.at: at(chosen).double()
    chosen = torch.arange(0, 36, 4)
    work.loss(drawn, chosen).backward()
    for values in (support.images, support.targets, support.transform, *([support.scale] if loss == "platt" else [])):
        flat, slope = values.detach().view(-1), values.grad.flatten()
        for place in {0, len(flat) // 2, len(flat) - 1}:
            sides = []
            for step in (1e-6, -2e-6):
                flat[place] += step
                sides.append(float(work.loss(drawn, chosen).detach()))
            flat[place] += 1e-6
            assert float(slope[place]) == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-8)


def test_resumed_work_ends_where_undisturbed_work_does():
    def begin():
        work = _work()
        fixed = RandomConvNets(2, 2, 8).draw(3, "cpu", 9)
        return Validated(work, torch.arange(6), fixed, check=2, patience=100)

    whole, first, second = begin(), begin(), begin()
    for number in range(6):
        whole.step(number)
    for number in range(3):
        first.step(number)
    second.restore(first.state())
    for number in range(3, 6):
        second.step(number)
    for name in ("images", "targets", "transform", "scale"):
        assert torch.equal(getattr(whole.work.support, name), getattr(second.work.support, name))
    assert torch.equal(whole.work.support.shown, second.work.support.shown)
    assert (whole.lowest, whole.since) == (second.lowest, second.since)


def test_the_best_tested_set_counts_and_a_run_that_gets_no_better_ends(monkeypatch):
    work, losses = _work(), iter([3.0, 2.0, 5.0, 4.0])
    steps, kept = [], []
    monkeypatch.setattr(work, "step", lambda number: steps.append(number) or 1.0)
    monkeypatch.setattr(work, "loss", lambda networks, held_out: next(losses))
    monkeypatch.setattr(work.support, "keep", lambda: kept.append(steps[-1]))
    validated = Validated(work, torch.arange(3), [], check=2, patience=4)
    assert [validated.step(number) for number in range(12)] == [1.0] * 12
    assert kept == [1, 3]  # after steps 2 and 4, counted from 1
    assert steps == list(range(8))


def test_held_out_images_are_apart_from_batches(ctx):
    bound = _prepared(ctx, validation_images="4", check="8")
    held = held_out_places(bound.ctx)
    assert np.bincount(TOY.train.labels[held]).tolist() == [4, 4, 4]
    assert np.bincount(TOY.train.labels[held_out_places(_prepared(ctx).ctx)]).tolist() == [6, 6, 6]
    seen = []

    def at(self, chosen, original=RealImages.at):
        seen.append(set(chosen.tolist()))
        return original(self, chosen)

    options = QUICK | {"iterations": "8", "check": "8", "validation_images": "4", "validation_networks": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RealImages, "at", at)
        distil(_prepared(ctx, **options))
        assert seen[-1] == set(held.tolist())
        assert not set().union(*seen[-9:-1]) & set(held.tolist())
        distil(_prepared(ctx, preset="official", **options))
        assert set().union(*seen[-9:-1]) & set(held.tolist())


def _few(classes, channels=3):
    images = np.random.default_rng(0).integers(0, 255, (classes, 8, 8, channels), np.uint8)
    split = ddbench.Split(ddbench.ArrayImages(images), np.arange(classes), tuple(map(str, range(classes))))
    names = tuple(f"class {label}" for label in range(classes))
    constants = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    return replace(
        TOY, class_names=names, class_ids=names, train=split, test=split, fingerprint=f"{classes}", **constants
    )


@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (1, 1), (100, 3)])
@pytest.mark.parametrize("loss", ["platt", "mse"])
def test_one_class_one_image_grey_images_and_a_hundred_classes(ctx, classes, channels, loss):
    options = QUICK | {"learn_labels": "true", "loss": loss}
    made = distil(_prepared(ctx, _few(classes, channels), 1, **options))
    assert made.content.images.shape == (classes, 8, 8, channels)
    assert made.content.soft_labels.shape == (classes, classes)


def test_mistakes_are_named(ctx):
    with pytest.raises(ddbench.DivergedError, match=r"is not finite|is 0"):
        distil(_prepared(ctx, **(QUICK | {"lr_img": "1e38", "iterations": "4"})))
    with pytest.raises(ddbench.UsageError, match="at least two training images of a class"):
        distil(_prepared(ctx, _few(3), 1, **(QUICK | {"check": "1"})))
    with pytest.raises(ddbench.UsageError, match="images of at least 16 pixels"):
        distil(_prepared(ctx, **(QUICK | {"depth": "4"})))


def test_settings_by_preset(ctx):
    paper, cpu = _prepared(ctx, preset="paper")[1], _prepared(ctx)[1]
    options = paper.options
    assert (options.iterations, options.batch_real, options.networks, options.width) == (100_000, 5120, 8, 256)
    assert (options.lr_img, options.lr_transform, options.lr_scale, options.ridge) == (1e-3, 5e-5, 1e-2, 5e-3)
    assert (options.check, options.patience, options.holdout) == (40, 1000, True)
    assert _prepared(ctx, preset="official")[1].options.holdout is False
    assert cpu.resolved.experiment["eval"][0] == "krr"


def test_it_conforms(ctx):
    options = {"iterations": 2, "networks": 2, "width": 8, "batch_real": 9}
    check_method(ctx.plugins.get("method", "rfad").spec, options=options)
