"""Label regimes: what the labels of a batch are, what they cost, and that nothing but the labels differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ddbench_plugins.evaluators.fkd import soft_labels, unified
from ddbench_plugins.evaluators.fkd.evaluator import FkdOptions, FkdRecipe
from ddbench_plugins.evaluators.fkd.labelling import Plan, fixed_batches, hard_batches, online_batches
from ddbench_plugins.evaluators.fkd.soft_labels import SoftLabels
from ddbench_plugins.evaluators.fkd.views import ViewRecipe
from ddbench_plugins.networks import convnet
from ddbench_plugins.training.losses import kl_soft_label, mixed_cross_entropy
from ddbench_plugins.training.seeding import make_generator, seeded
from safetensors.torch import load_file
from torch import nn

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.options import Preset
from ddbench.testing.toy import toy_dataset

COUNT, SIDE, CLASSES, T = 7, 8, 3, 4.0
IMAGES = torch.randint(0, 256, (COUNT, 1, SIDE, SIDE), generator=make_generator(1), dtype=torch.uint8)
HARD = torch.arange(COUNT) % CLASSES
PLAIN = ViewRecipe("none", 0.5, 2, flip=False, mix="none", mixup_alpha=0.8, mean=(0.5,), std=(0.25,))


def plan(**changes) -> Plan:
    return Plan(replace(PLAIN, **changes), epochs=2, batch_size=4, seed=5, temperature=T)


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Module, nn.Module]:
    """A teacher and a student."""
    with seeded(0):
        made = [convnet.build(in_channels=1, image_size=SIDE, num_classes=CLASSES, depth=1, width=4) for _ in range(2)]
    return made[0].eval(), made[1].eval()


@pytest.fixture(scope="module")
def logits(networks) -> torch.Tensor:
    (batch,) = online_batches(IMAGES, networks[0], replace(plan(), batch_size=COUNT), "fp32")(0)
    return batch.labels[batch.indices.argsort()]


def gradient(loss: torch.Tensor, student: nn.Module) -> torch.Tensor:
    return torch.cat(
        [part.flatten() for part in torch.autograd.grad(loss, list(student.parameters()), retain_graph=True)]
    )


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
def test_the_gradient_of_hard_labels_is_that_of_cross_entropy(networks, mix):
    student, mine = networks[1], plan(mix=mix, crop="padded", flip=True)
    loss = FkdRecipe.of(_Ctx(), options := FkdOptions(labels="hard"), options=options, teacher=None).loss
    for view, batch in zip(mine.views(IMAGES, 0), hard_batches(IMAGES, HARD.numpy(), CLASSES, mine)(0), strict=True):
        out, own = student(batch.images), HARD[view.indices]
        expected = (
            F.cross_entropy(out, own)
            if mix == "none"
            else mixed_cross_entropy(out, own, own[view.partners], view.ratio)
        )
        torch.testing.assert_close(gradient(loss(out, batch.labels), student), gradient(expected, student))
        torch.testing.assert_close(batch.labels.sum(1), torch.ones(len(own)))


def test_fixed_labels_are_the_teachers_where_nothing_is_augmented(networks, logits):
    teacher, student = networks
    pairs = zip(
        online_batches(IMAGES, teacher, plan(), "fp32")(1), fixed_batches(IMAGES, logits, T, plan())(1), strict=True
    )
    for asked, kept in pairs:
        assert torch.equal(asked.images, kept.images) and torch.equal(asked.indices, kept.indices)
        torch.testing.assert_close((kept.labels / T).softmax(1), (asked.labels / T).softmax(1))
        losses = [kl_soft_label(student(batch.images), batch.labels, T) for batch in (asked, kept)]
        torch.testing.assert_close(gradient(losses[1], student), gradient(losses[0], student))
    mixed = plan(mix="mixup")
    asked, kept = (
        next(iter(kind(0)))
        for kind in (online_batches(IMAGES, teacher, mixed, "fp32"), fixed_batches(IMAGES, logits, T, mixed))
    )
    assert not torch.allclose((asked.labels / T).softmax(1), (kept.labels / T).softmax(1))


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_a_mixed_image_has_the_weighted_mean_of_both_probabilities(logits, mix):
    mine = plan(mix=mix)
    probabilities = (logits / T).softmax(1)
    for view, batch in zip(mine.views(IMAGES, 0), fixed_batches(IMAGES, logits, T, mine)(0), strict=True):
        share, own = float(view.ratio), probabilities[view.indices]
        torch.testing.assert_close((batch.labels / T).softmax(1), share * own + (1 - share) * own[view.partners])


def test_fixed_labels_take_two_bytes_a_logit_and_a_number_of_their_image(tmp_path, networks, logits):
    mine = plan(crop="resized", flip=True, mix="cutmix").plain()
    soft_labels.write(tmp_path, IMAGES, networks[0], mine, {"class_ids": list("abc"), "teacher": "a test's"}, "fp32")
    (shard,) = tmp_path.glob("*.safetensors")
    assert sum(tensor.nbytes for tensor in load_file(shard).values()) == COUNT * (2 * CLASSES + 4)
    torch.testing.assert_close(SoftLabels(tmp_path).table(), logits, rtol=1e-3, atol=1e-3)


class _Ctx:
    dataset = toy_dataset()


@pytest.mark.parametrize(
    ("labels", "top_k", "kept", "asked"),
    [
        ("hard", None, 0, 0),
        ("fixed", None, 6, 1),
        ("online", None, 0, 5),
        ("stored", None, 30, 5),
        ("stored", 2, 50, 5),  # two float16 logits with their uint16 classes, and one logit for the others
    ],
)
def test_the_protocol_states_the_price_of_the_labels(labels, top_k, kept, asked):
    options = unified.UnifiedOptions(labels=labels, epochs=5, top_k=top_k)
    teacher = None if labels == "hard" else _Teacher()
    told = unified.UnifiedRecipe.of(_Ctx(), options, options=options, teacher=teacher).settings()
    assert (told["label_bytes_per_image"], told["teacher_forwards_per_image"]) == (kept, asked)
    assert told["label_type"] == ("hard" if labels == "hard" else "soft")
    assert ("teacher" in told) == (labels != "hard")


class _Teacher:
    def describe(self):
        return {"network": "mlp"}


def test_regimes_see_the_same_images_in_the_same_order(networks, logits):
    mine = plan(mix="cutmix", crop="resized", flip=True)
    kinds = (
        hard_batches(IMAGES, HARD, CLASSES, mine),
        fixed_batches(IMAGES, logits, T, mine),
        online_batches(IMAGES, networks[0], mine, "fp32"),
    )
    for epoch in (0, 1):
        for hard, fixed, online in zip(*(kind(epoch) for kind in kinds), strict=True):
            assert torch.equal(hard.images, fixed.images) and torch.equal(fixed.images, online.images)


RETHINKDC = {
    **{"epochs": 300, "batch_size": 128, "optimiser": "adamw", "lr": 0.001, "weight_decay": 0.01, "decay": "matrices"},
    **{"schedule": "cosine", "temperature": 20, "scale_by_t2": False, "crop": "resized", "crop_scale": 0.08},
    **{"test_resize": True, "test_every": 50, "selection": "last"},
}
RD3 = {
    **{"epochs": 400, "batch_size": 50, "optimiser": "adam", "lr": 0.001, "weight_decay": 0, "labels": "online"},
    **{"mix": "cutmix", "crop": "resized", "teacher": "modified-resnet-18"},
}


@pytest.mark.parametrize(
    ("name", "network", "expected"),
    [
        ("rethinkdc-soft", "modified-resnet-18", {**RETHINKDC, "labels": "online", "mix": "cutmix"}),
        ("rethinkdc-hard", "modified-resnet-18", {**RETHINKDC, "labels": "hard", "mix": "none"}),
        ("rd3", "modified-resnet-18", {**RD3, "schedule": "cosine"}),
        ("rd3", "convnet-3-bn", {**RD3, "schedule": "half_cosine"}),
    ],
)
def test_values_at_paper_scale(ctx, name, network, expected):
    mine = replace(ctx, _dataset=replace(toy_dataset(channels=3), image_size=32), preset=Preset.parse("paper"))
    found = prepare_evaluator(mine, name, network, 10)[1].options.model_dump()
    assert {option: found[option] for option in expected} == expected


def test_hard_labels_need_no_teacher(ctx):
    for name, options in (("rethinkdc-hard", {}), ("rd3", {"labels": "hard"}), ("fkd", {"labels": "hard"})):
        mine = replace(ctx, _dataset=toy_dataset(), explicit={"evaluator": options})
        made, mine, _ = prepare_evaluator(mine, name, "convnet-1-bn", 2)
        distilled = ddbench.DistilledSet(*(part[:6] for part in mine.dataset.arrays("train")))
        assert made.needs(mine, distilled, 0) == []
        assert made.protocol(mine, distilled).settings["label_type"] == "hard"


def test_a_student_of_hard_labels_learns(ctx):
    options = {"labels": "hard", "epochs": 30, "batch_size": 6, "lr": 0.01, "crop": "none", "mix": "none"}
    mine = replace(ctx, _dataset=toy_dataset(), explicit={"evaluator": options})
    made, mine, _ = prepare_evaluator(mine, "rd3", "convnet-1-bn", 4)
    images, labels = mine.dataset.arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == label)[:4] for label in range(3)])
    assert made.evaluate(mine, ddbench.DistilledSet(images[chosen], labels[chosen]), 0).last > 0.8
