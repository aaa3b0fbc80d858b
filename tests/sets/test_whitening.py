"""ZCA recipes: the identities that define them, against matrix functions of another library, and sets that use them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

import ddbench
from ddbench import DataError, UsageError
from ddbench.errors import PluginError
from ddbench.experiment.pipeline import evaluate, prepare_evaluator
from ddbench.plugin.contracts import Budget
from ddbench.plugin.whitening import RECIPES, ZcaRecipe
from ddbench.results.schema import PluginPart
from ddbench.runtime.progress import Reporter
from ddbench.sets import folder as disk
from ddbench.sets import whitening as zca
from ddbench.sets.made import Distilled
from ddbench.testing.toy import toy_dataset

TOY = toy_dataset(per_class=40, channels=3)  # 120 images of 192 numbers
FEW = toy_dataset(per_class=40)  # 120 images of 64 numbers


@pytest.fixture
def fitted(ctx):
    return lambda data, name: ddbench.Whitening.of(replace(ctx, _dataset=data), name)


def _rows(data, name, split="train"):
    """What the recipes of the papers make of pixels before they whiten, written out one by one."""
    pixels, train = (data.arrays(part)[0].astype(np.float64) for part in (split, "train"))
    if name in ("kip", "rfad"):
        pixels = (pixels - train.mean((0, 1, 2))) / train.std((0, 1, 2))
    elif name == "frepo":
        pixels = (pixels / 255 - (train / 255).mean((0, 1, 2)).round(4)) / (train / 255).std((0, 1, 2)).round(4)
    elif name == "mtt":
        pixels = pixels / 255
    rows = pixels.reshape(len(pixels), -1)
    if name in ("kip", "rtp"):
        rows = rows - rows.mean(1, keepdims=True)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _expected(data, name):
    """Whitened test images, with the square root of scipy in place of eigenvectors."""
    train, test = _rows(data, name), _rows(data, name, "test")
    mean = train.mean(0) if name in ("frepo", "mtt") else 0
    used = train[: len(train) - len(train) // 10] if name == "kip" else train
    moments = (used - mean).T @ (used - mean) / (len(used) - (name == "mtt"))
    ridge = 0.1 if name == "mtt" else 0.1 * np.trace(moments) / len(moments)
    root = linalg.inv(linalg.sqrtm(moments + ridge * np.eye(len(moments))).real)
    return (test - mean) @ root


@pytest.mark.parametrize("name", RECIPES)
def test_test_images_are_whitened_by_the_matrix_of_the_training_images(fitted, name):
    white = fitted(FEW, name).whiten(FEW.arrays("test")[0])
    assert white.dtype == np.float32
    np.testing.assert_allclose(white.reshape(len(white), -1), _expected(FEW, name), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_pixels_come_back(fitted, name):
    whitening, pixels = fitted(TOY, name), TOY.arrays("test")[0]
    back = whitening.restore(whitening.whiten(pixels))
    if whitening.recipe.per_image:
        assert abs(back.reshape(len(back), -1) - _rows(TOY, name, "test")).max() < 1e-4
    else:
        assert abs(back - pixels / 255).max() < 1e-4
        assert (whitening.shown(whitening.whiten(pixels)) == pixels).all()


@given(st.integers(2, 40), st.integers(2, 60), st.floats(0.01, 10), st.booleans())
def test_whitened_moments_are_those_of_the_formula(size, images, ridge, full_rank):
    rows = np.random.default_rng([size, images]).normal(size=(images, size)) ** 3
    moments = rows.T @ rows / images
    matrix, inverse, square = zca.roots(moments, ZcaRecipe(ridge=ridge, full_rank=full_rank), images)
    values = np.linalg.eigvalsh(moments).clip(0)
    factors = 1 / (values + ridge * values.mean())
    if full_rank:
        factors[: max(0, size - images)] = 1
    found = np.linalg.eigvalsh(matrix @ moments @ matrix)
    np.testing.assert_allclose(found, np.sort(values * factors), atol=1e-9)
    np.testing.assert_allclose(matrix @ inverse, np.eye(size), atol=1e-7)
    assert square == pytest.approx(np.square(rows @ matrix).mean(), rel=1e-6, abs=1e-12)


def test_the_recipes_are_five(fitted):
    made = {name: fitted(TOY, name) for name in RECIPES}
    assert len({whitening.space.fingerprint for whitening in made.values()}) == len(made) == 5
    white = [whitening.whiten(TOY.arrays("test")[0]) for whitening in made.values()]
    assert all(abs(a - b).max() > 1e-2 for i, a in enumerate(white) for b in white[:i])
    svhn = replace(TOY, name="svhn")  # two papers treat it otherwise
    other = {name for name in RECIPES if ddbench.Whitened.by(name, svhn) != ddbench.Whitened.by(name, TOY)}
    assert other == {"rfad", "rtp"}
    assert ddbench.Whitened.by("kip", FEW) != ddbench.Whitened.by("kip", TOY)
    with pytest.raises(UsageError, match=r"Unknown ZCA recipe 'kpi'\. Did you mean 'kip'"):
        ddbench.Whitened.by("kpi", TOY)


def test_large_images_are_refused(ctx):
    with pytest.raises(DataError, match="65 pixels"):
        ddbench.Whitening.of(replace(ctx, _dataset=replace(TOY, image_size=65)), "kip")


# Sets ----------------------------------------------------------------------------------------------------------------


def _chosen(data, ipc=2):
    images, labels = data.arrays("train")
    rows = np.concatenate([np.flatnonzero(labels == label)[:ipc] for label in range(data.num_classes)])
    return ddbench.DistilledSet(images[rows], labels[rows])


def _white(whitening, chosen):
    return whitening.made(replace(chosen, images=whitening.whiten(chosen.images)))


def test_a_set_keeps_its_recipe_and_what_it_looks_like(fitted, tmp_path):
    made = _white(fitted(FEW, "rfad"), _chosen(FEW))
    about = {"method": {"name": "mine"}, "ipc": 2, "seed": 0}
    content = disk.save(tmp_path / "set", made, FEW, about)
    assert content["format"] == 3 and content["whitening"]["recipe"] == "rfad"
    loaded = disk.load(tmp_path / "set").distilled
    assert loaded.whitening == made.whitening and (loaded.images == made.images).all()
    assert (loaded.shown == _chosen(FEW).images).all()  # un-whitened, byte for byte
    from ddbench.figures.gallery import displayable

    assert (displayable(loaded, [3, 1], None) == _chosen(FEW).images[[3, 1]]).all()
    kip = replace(made, whitening=ddbench.Whitened.by("kip", FEW))
    assert disk.content_digest(kip) != disk.content_digest(made)


def test_a_recipe_belongs_to_its_training_images(fitted):
    made = _white(fitted(FEW, "rfad"), _chosen(FEW))
    made.check(FEW, Budget(2), "mine")
    other = toy_dataset(per_class=40, seed=1)
    with pytest.raises(PluginError, match="rfad whitened for other training images than these of toy"):
        made.check(other, Budget(2), "mine")
    with pytest.raises(PluginError, match="whitening None"):
        replace(made, whitening=None).check(FEW, Budget(2), "mine")
    with pytest.raises(PluginError, match="pictures"):
        replace(made, shown=made.shown[:1]).check(FEW, Budget(2), "mine")


def _evaluated(ctx, data, content, name, tmp_path, **options):
    part = PluginPart(name="mine", version=1, options={}, explicit={})
    digest, sizes = disk.content_digest(content), {"images": content.images.nbytes, "labels": 0}
    made = Distilled(part, content, digest, digest, 2, 0, (), [], None, sizes, tmp_path)
    bound = prepare_evaluator(replace(ctx, _dataset=data, explicit={"evaluator": options}), name, "", 2)
    return evaluate(bound, made, repeats=1)


@pytest.mark.parametrize("name", ["kip", "mtt"])
def test_a_whitened_set_scores_as_the_data_used_whitened(ctx, fitted, tmp_path, name):
    chosen, used = _chosen(FEW), replace(FEW, zca=name)
    made = _white(fitted(FEW, name), chosen)
    records = {
        evaluator: [_evaluated(ctx, *pair, evaluator, tmp_path, **options) for pair in ((FEW, made), (used, chosen))]
        for evaluator, options in (
            *(("krr", {}), ("dc", {"epochs": 3}), ("frepo", {"steps": 3})),
            *(("kip-nn", {"steps": 3}), ("rfad-nn", {"steps": 3, "check": 1})),
        )
    }
    for evaluator, (of_set, of_data) in records.items():
        assert of_set.result.correct == of_data.result.correct, evaluator
        assert of_set.protocol.digest == of_data.protocol.digest
        assert of_set.protocol.settings["normalisation"] == f"zca {name}"
    extra = records["krr"][0].distilled.extra
    assert extra["whitening"] == {"recipe": name, "fingerprint": made.whitening.fingerprint}


def test_krr_on_whitened_images_is_the_regression_by_hand(ctx, tmp_path):
    record = _evaluated(ctx, replace(FEW, zca="frepo"), _chosen(FEW), "krr", tmp_path, kernel="nngp")
    train = _expected(replace(FEW, test=FEW.train), "frepo")
    rows = np.concatenate([np.flatnonzero(FEW.train.labels == label)[:2] for label in range(3)])
    x, z = train[rows], _expected(FEW, "frepo")

    def kernel(a, b):
        s = 2 * a @ b.T / a.shape[1] + 0.01
        norm = np.sqrt(np.outer(*(2 * (v**2).mean(1) + 0.01 for v in (a, b))))
        angle = np.arccos(np.clip(s / norm, -1, 1))
        return norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi + 0.01

    own = kernel(x, x)
    weights = np.linalg.solve(own + 1e-6 * own.trace() / 6 * np.eye(6), np.eye(3)[FEW.train.labels[rows]] - 1 / 3)
    wanted = (kernel(z, x) @ weights).argmax(1) == FEW.test.labels
    assert record.result.correct_bits(0).tolist() == wanted.tolist()


def test_what_cannot_whiten_says_so(ctx, fitted, tmp_path):
    made = _white(fitted(FEW, "rtp"), _chosen(FEW))
    with pytest.raises(UsageError, match=r"whitened \(zca rtp\), but evaluator rded tests on others"):
        _evaluated(ctx, FEW, made, "rded", tmp_path)
    with pytest.raises(UsageError, match=r"data\.zca=kip"):
        _evaluated(ctx, replace(FEW, zca="kip"), _chosen(FEW), "minimax", tmp_path)
    with pytest.raises(UsageError, match=r"data\.zca=kip\), but evaluator rded"):
        ddbench.plan("random", "rded", ipc=1, options={"data": {"zca": "kip"}})  # before anything is distilled
    with pytest.raises(UsageError, match="whitened by rtp, not by kip"):
        _evaluated(ctx, replace(FEW, zca="kip"), made, "dc", tmp_path)


def test_another_recipes_set_is_refused_or_warned_of(ctx, fitted, tmp_path):
    right, chosen = fitted(FEW, "kip"), _chosen(FEW, 10)
    assert right.doubt(right.whiten(chosen.images)) == ""
    with pytest.raises(DataError, match="was not whitened by kip: its pixels' mean square is"):
        right.check(right.whiten(chosen.images) * 255, print)
    told = []
    fitted(FEW, "mtt").check(right.whiten(chosen.images), told.append)
    assert told and "Was the set whitened by mtt?" in told[0]


def test_a_mean_image_tells_whether_it_was_subtracted(ctx):
    digits = ddbench.load_dataset("digits")  # much of their energy is the mean digit
    rfad, frepo = (ddbench.Whitening.of(replace(ctx, _dataset=digits), name) for name in ("rfad", "frepo"))
    chosen = _chosen(digits, 10).images
    assert rfad.doubt(rfad.whiten(chosen)) == frepo.doubt(frepo.whiten(chosen)) == ""
    found = rfad.doubt(frepo.whiten(chosen))
    assert found == "the mean of its images is off by -0.9 of the mean image, which rfad does not subtract"


def test_whitened_tensors_are_imported_by_the_recipe_that_is_named(ctx, tmp_path, monkeypatch):
    import torch

    digits, told = ddbench.load_dataset("digits"), []
    whitening = ddbench.Whitening.of(replace(ctx, _dataset=digits), "mtt")
    chosen = _chosen(digits)
    torch.save(torch.from_numpy(whitening.whiten(chosen.images)).permute(0, 3, 1, 2), tmp_path / "images_best.pt")
    torch.save(torch.from_numpy(chosen.labels), tmp_path / "labels_best.pt")
    monkeypatch.setattr(Reporter, "warn", lambda self, message: told.append(message))
    made = ddbench.import_set(tmp_path / "images_best.pt", "theirs", dataset="digits", space="zca:mtt")
    assert (made.distilled.shown == chosen.images).all() and not told
    assert made.about["method"]["options"]["space"] == "zca:mtt"
    ddbench.import_set(tmp_path / "images_best.pt", "theirs", dataset="digits", space="zca:kip")
    assert told and "Was the set whitened by kip?" in told[0]
    extra = ddbench.evaluate(made.path, "krr", registry=tmp_path / "mine")[0].distilled.extra
    assert (extra["whitening"]["recipe"], extra["imported"]["space"]) == ("mtt", "zca:mtt")


# Runs ----------------------------------------------------------------------------------------------------------------


def _distil(method, **options):
    scopes = {"data": {"zca": "frepo"}, "method": options}
    (made,) = ddbench.distill(method, ipc=1, options=scopes, device="cpu", precision="fp32")
    return made.distilled


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dm", {"iterations": 2, "batch_real": 8}),
        ("kip", {"iterations": 2, "targets": 50}),
        ("ls", {}),
        ("frepo", {"iterations": 2, "batch_real": 8, "network": "frepo-convnet-3-w32"}),
        (
            "mtt",
            {
                "network": "mlp",
                "iterations": 1,
                "syn_steps": 2,
                "experts": 1,
                "train_epochs": 1,
                "max_start_epoch": 1,
                "expert_epochs": 1,
            },
        ),
    ],
)
def test_methods_distil_whitened_pixels(ctx, digits, method, options):
    made = _distil(method, **options)
    assert made.space == "zca" and made.whitening == ddbench.Whitened.by("frepo", digits)
    whitening = ddbench.Whitening.of(replace(ctx, _dataset=digits), "frepo")
    assert (made.shown == whitening.shown(made.images)).all()
    if method == "ls":  # real images
        back = whitening.restore(made.images)
        assert abs(back * 255 - (back * 255).round()).max() < 0.02


def test_a_whitened_set_from_a_folder_makes_the_record_of_its_run(tmp_path):
    (made,) = ddbench.distill("ls", ipc=1, options={"data": {"zca": "kip"}}, out=tmp_path / "sets")
    registry = {"registry": tmp_path / "registry"}
    (whole,) = ddbench.run("ls", "krr", ipc=1, options={"data": {"zca": "kip"}}, **registry)
    (read,) = ddbench.evaluate(made.path, "krr", **registry)
    assert (read.key, read.result.values) == (whole.key, whole.result.values)
    (plain,) = ddbench.run("ls", "krr", ipc=1, **registry)
    assert plain.key != read.key


def test_a_plain_set_is_not_taken_for_one_that_was_distilled_from_whitened_images(tmp_path):
    (made,) = ddbench.distill("ls", ipc=1, out=tmp_path / "sets")
    given = {"options": {"data": {"zca": "kip"}}, "registry": tmp_path / "registry"}
    with pytest.raises(UsageError, match=r"distilled from plain images; .*taken for that"):
        ddbench.evaluate(made.path, "krr", **given)
    (record,) = ddbench.evaluate(made.path, "krr", name="ls-plain", **given)
    (whole,) = ddbench.run("ls", "krr", ipc=1, **given)
    assert record.key != whole.key and record.cell.method.name == "ls-plain"


def test_methods_that_cannot_whiten_say_so():
    with pytest.raises(UsageError, match=r"IDC, IDC-I and DREAM normalise their inputs.*data\.zca=frepo"):
        _distil("idc-1", iterations=1)
    with pytest.raises(UsageError, match="compared on images that are not whitened"):
        _distil("mtt", iterations=1, experts=1, keep="best_test")
