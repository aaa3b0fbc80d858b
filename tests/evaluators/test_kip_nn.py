"""The finite network of KIP (Nguyen et al. 2021, nn_training.ipynb)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pretended_gpu import pretended
from stopped import Stopped, stopped_after

import ddbench
from ddbench.errors import UsageError
from ddbench.experiment.pipeline import check_fit, prepare_evaluator
from ddbench.plugin.options import Preset
from ddbench.runtime.machine import Machine
from ddbench.testing.conformance import check_evaluator
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.evaluators.real_labels import targets_of  # noqa: E402
from ddbench_plugins.training import students  # noqa: E402

TOY = toy_dataset(channels=3)
NETWORK = "kip-convnet-3-w64"


def content(data=TOY, ipc=4, **fields):
    """The first images of every class."""
    images, labels = data.arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == label)[:ipc] for label in range(data.num_classes)])
    return ddbench.DistilledSet(images[chosen], labels[chosen], **fields)


def prepared(ctx, data=TOY, preset="", network="", name="kip-nn", ipc=4, **options):
    """The evaluator with its context, explicit options as given."""
    ctx = replace(ctx, _dataset=data, explicit={"evaluator": options}, preset=Preset.parse(preset))
    return prepare_evaluator(ctx, name, network, ipc)


def test_what_the_notebook_does(ctx):
    evaluator, mine, _ = prepared(ctx, preset="paper+official")
    found = evaluator.protocol(mine, content()).settings
    stated = {"network": "kip-convnet-3", "label_type": "real", "batch_size": 100, "steps": 5000, "selection": "last"}
    stated |= {"weight_decay": 1e-3, "optimiser": "SGD, momentum 0.9", "schedule": "cosine to 0", "augmentation": []}
    stated |= {"lr": "1.0 of the largest stable one", "lr_rule": "no_momentum", "normalisation": "dataset"}
    assert {name: found[name] for name in stated} == stated
    evaluator, mine, _ = prepared(ctx)
    assert evaluator.protocol(mine, content()).settings["network"] == NETWORK
    assert mine.resolved.shrunk == (("steps", 5000, 1000),)


def test_how_it_trains(ctx, monkeypatch):
    told = {}

    def stand_in(ctx, network, **how):
        told.update(how, network=network)
        return ddbench.Score(0.5, np.arange(len(TOY.test)) % 2 == 0)

    monkeypatch.setattr(students, "train_student", stand_in)
    evaluator, mine, _ = prepared(ctx, steps=10, lr_factor=0.5, batch_size=5)
    score = evaluator.evaluate(mine, content(), 0)
    assert (told["epochs"], told["batch_size"], told["schedule_per_step"]) == (4, 5, True)  # 3 batches of 12 images
    assert [told["schedule"](epoch) for epoch in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    (group,) = told["optimiser"](told["network"]).param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 1e-3, False)
    assert group["lr"] == score.metrics["lr"]
    outputs, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    batch = type("Batch", (), {"images": torch.zeros(2, 1), "labels": targets})()
    loss = told["step"](lambda images: outputs, batch, torch.Generator())
    assert float(loss) == pytest.approx((1 + 4 + 1) / 4 / 2)


def test_the_rate_is_that_of_the_kernel_of_training_images(ctx, monkeypatch):
    """2·n·K over the largest eigenvalue of the Gram matrix of gradients, taken here one image after the other."""
    from ddbench_plugins.evaluators import kip_nn

    rates = {}
    for rule, factor in (("no_momentum", 1.0), ("momentum", 1.0), ("no_momentum", 0.25)):
        evaluator, mine, _ = prepared(ctx, lr_rule=rule, lr_factor=factor)
        rates[rule, factor] = evaluator.recipe(mine, content()).rate(mine, 0, None)
    assert rates["momentum", 1.0] == pytest.approx(1.9 * rates["no_momentum", 1.0])
    assert rates["no_momentum", 0.25] == pytest.approx(rates["no_momentum", 1.0] / 4)
    monkeypatch.setattr(kip_nn, "RATE_IMAGES", 100)  # all 36 of them, in any order
    evaluator, mine, _ = prepared(ctx)
    rate = evaluator.recipe(mine, content()).rate(mine, 0, None)
    network, rows = mine.build_network(seed=mine.seed("student", 0)).double(), []
    for image in TOY.arrays("train")[0]:
        x = torch.tensor(((image / 255 - TOY.mean) / TOY.std).transpose(2, 0, 1)[None])
        network.zero_grad()
        (network(x).sum() / 3**0.5).backward()
        rows.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).numpy())
    eigenvalue = np.linalg.svd(np.stack(rows), compute_uv=False)[0] ** 2
    assert rate == pytest.approx(2 * 36 * 3 / eigenvalue, rel=1e-3)


def test_the_rate_depends_on_no_test_image_and_differs_between_networks(ctx):
    def rate(data, repeat):
        evaluator, mine, _ = prepared(ctx, data)
        return evaluator.recipe(mine, content()).rate(mine, repeat, None)

    other = replace(TOY, test=toy_dataset(channels=3, seed=3).test, fingerprint="other")
    assert rate(TOY, 0) == rate(other, 0) != rate(TOY, 1)


def test_targets_are_learned_labels_or_centred_ones():
    learned = np.array([[3.0, -1.0, 0.5]] * 3, np.float32)
    assert targets_of(content(ipc=1, soft_labels=learned, label_kind="centred"), 3) is learned
    assert targets_of(content(ipc=1), 3) == pytest.approx(np.eye(3) - 1 / 3)
    probabilities = np.array([[0.5, 0.25, 0.25]] * 3, np.float32)
    assert targets_of(content(ipc=1, soft_labels=probabilities), 3) == pytest.approx(probabilities - 1 / 3)


@pytest.mark.parametrize("name", ["kip-nn", "rfad-nn", "frepo"])
def test_what_does_not_fit_is_refused_while_a_run_is_planned(ctx, name):
    with pytest.raises(UsageError, match="cannot train on the free labels of sldd"):
        check_fit(prepared(ctx, name=name), "sldd", {"soft_labels", "free"})
    check_fit(prepared(ctx, name=name), "kip", {"soft_labels", "centred"})
    check_fit(prepared(ctx, name=name), "datm", {"soft_labels"})
    check_fit(prepared(ctx, name=name), "random", ())
    one = replace(TOY, class_names=TOY.class_names[:1], class_ids=TOY.class_ids[:1])
    with pytest.raises(UsageError, match="toy has one class"):
        check_fit(prepared(ctx, one, name=name), "random", ())


@pytest.mark.parametrize(("channels", "ipc"), [(1, 1), (3, 1), (1, 4)])
@pytest.mark.parametrize("name", ["kip-nn", "rfad-nn"])
def test_extremes_of_sets(ctx, name, channels, ipc):
    """Grey images, one per class, with labels of both signs that sum to anything."""
    data = toy_dataset(channels=channels)
    labels = (np.arange(3 * ipc * 3, dtype=np.float32).reshape(-1, 3) - 4) * 0.7
    for fields in ({}, {"soft_labels": labels, "label_kind": "centred"}):
        evaluator, mine, _ = prepared(ctx, data, name=name, network=f"{name[:-3]}-convnet-3-w64", ipc=ipc, steps=3)
        score = evaluator.evaluate(mine, content(data, ipc, **fields), 0)
        score.check(data, name)
        assert np.isfinite(score.metrics["final_loss"])


@pytest.mark.parametrize("name", ["kip-nn", "rfad-nn"])
def test_a_hundred_classes(ctx, name):
    rng = np.random.default_rng(0)
    images, names = rng.integers(0, 256, (100, 8, 8, 3), np.uint8), tuple(f"c{n}" for n in range(100))
    split = ddbench.Split(ddbench.ArrayImages(images), np.arange(100), names)
    data = replace(TOY, class_names=names, class_ids=names, train=split, test=split, fingerprint="hundred")
    evaluator, mine, _ = prepared(ctx, data, name=name, ipc=1, steps=2)
    score = evaluator.evaluate(mine, ddbench.DistilledSet(images, np.arange(100)), 0)
    score.check(data, name)
    if name == "rfad-nn":
        assert evaluator.protocol(mine, content(data, 1)).settings["validation_images"] == 100


@pytest.mark.parametrize("name", ["kip-nn", "rfad-nn"])
def test_images_below_eight_pixels_are_too_small(ctx, name):
    evaluator, mine, _ = prepared(ctx, replace(TOY, image_size=7), name=name)
    with pytest.raises(UsageError, match="at least 8 pixels, got 7"):
        evaluator.evaluate(mine, content(), 0)


def test_a_stopped_training_resumes_to_the_same_numbers(ctx, monkeypatch):
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "0")
    evaluator, mine, _ = prepared(ctx, steps=18, batch_size=5)
    whole = evaluator.evaluate(mine, content(), 0)
    checkpoint = stopped_after(4)
    with pytest.raises(Stopped):
        evaluator.evaluate(replace(mine, checkpoint=checkpoint), content(), 0)
    resumed = evaluator.evaluate(replace(mine, checkpoint=checkpoint.again()), content(), 0)
    assert resumed.metrics == whole.metrics
    assert resumed.correct.tolist() == whole.correct.tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kip-nn", {"batch_size": 5}),
        ("rfad-nn", {"check": 3, "lr": 0.1}),
        ("rfad-nn", {"batch_size": 5, "lr": 0.1, "weight_decay": 1e-3}),
    ],
)
def test_a_gpu_gives_the_numbers_of_the_cpu(ctx, name, options):
    def score(device):
        evaluator, mine, _ = prepared(ctx, name=name, steps=9, **options)
        mine = replace(mine, machine=Machine(device, "fp32", offline=True))
        return evaluator.evaluate(mine, content(), 0)

    wanted = score("cpu")
    with pretended() as gpu:
        found = score("cuda")
    assert gpu.launches > 100
    assert found.metrics == pytest.approx(wanted.metrics, rel=1e-3)
    assert found.correct.tolist() == wanted.correct.tolist()


def test_networks_are_trained_one_after_the_other(ctx):
    evaluator, mine, _ = prepared(ctx)
    assert evaluator.at_once(mine, content(), None) == evaluator.at_once(mine, content(), 4) == 1


@pytest.mark.slow
def test_it_conforms_and_learns_the_toy(ctx):
    record = check_evaluator(
        ctx.plugins.get("evaluator", "kip-nn").spec, options={"steps": 40}, network=NETWORK, dataset=TOY
    )
    assert record.mean > 0.5
    assert all(metrics["lr"] > 0 for metrics in record.result.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kip-nn", "rfad-nn"])
def test_from_end_to_end_on_digits_with_learned_labels_and_without(tmp_path, name):
    options = {"eval": {"steps": 60}, "method": {"iterations": 5, "targets": 200}}
    how = {"ipc": 1, "repeats": 1, "registry": tmp_path}
    for learned in (False, True):
        options["method"]["learn_labels"] = learned
        (record,) = ddbench.run("kip", name, options=options, **how)
        assert record.mean > 0.3
        assert record.protocol.settings["label_type"] == "real"
        assert record.cell.network == f"{name[:-3]}-convnet-3-w64"
    assert ddbench.run("kip", name, options=options, **how)[0].digest == record.digest
