"""Stored soft labels replay exactly what a teacher saw on line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ddbench_plugins.evaluators.fkd import soft_labels
from ddbench_plugins.evaluators.fkd.labelling import Plan, compress, online_batches, restore
from ddbench_plugins.evaluators.fkd.soft_labels import SoftLabels, write
from ddbench_plugins.evaluators.fkd.views import ViewRecipe
from ddbench_plugins.networks import convnet
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.loop import train
from ddbench_plugins.training.losses import kl_soft_label
from ddbench_plugins.training.optimisers import adamw
from ddbench_plugins.training.seeding import make_generator, seeded
from ddbench_plugins.training.steps import Batch, given_label_step
from torch import nn

from ddbench.errors import DataError

CLASSES = 5
COUNT, SIDE = 11, 8
IMAGES = torch.randint(0, 256, (COUNT, 1, SIDE, SIDE), generator=make_generator(1), dtype=torch.uint8)
LABELS = torch.arange(COUNT) % CLASSES
ABOUT = {"class_ids": list("abcde"), "teacher": "a test's"}


def network(seed=0):
    with seeded(seed):
        return convnet.build(in_channels=1, image_size=SIDE, num_classes=CLASSES, depth=2, width=8, norm="batch")


def teacher():
    found = network(7)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)  # labels of some contrast
        found.train()(normalise([0.5], [0.25])(IMAGES / 255, torch.Generator()))
    return found.eval()


def recipe(**changes):
    usual = {
        "crop": "padded",
        "crop_scale": 0.3,
        "padding": 2,
        "flip": True,
        "mix": "mixup",
        "mixup_alpha": 0.8,
        "mean": (0.5,),
        "std": (0.25,),
    }
    return ViewRecipe(**{**usual, **changes})


def plan(epochs=3, top_k=None, **changes):
    return Plan(recipe(**changes), epochs, batch_size=4, seed=3, top_k=top_k, temperature=4.0)


def stored(folder, mine, by=None):
    write(folder, IMAGES, by or teacher(), mine, ABOUT, "fp32")
    return SoftLabels(folder)


@pytest.mark.parametrize("crop", ["resized", "padded", "none"])
@pytest.mark.parametrize("mix", ["cutmix", "mixup", "none"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_stored_and_online_labels_see_the_same_batches(tmp_path, crop, mix, top_k):
    mine = plan(crop=crop, mix=mix, flip=crop != "none", top_k=top_k)
    online = online_batches(IMAGES, teacher(), mine, "fp32")
    replayed = stored(tmp_path, mine)
    seen = []
    for epoch in range(3):
        pairs = list(zip(online(epoch), replayed.batches(IMAGES, mine.recipe)(epoch), strict=True))
        assert [len(first.images) for first, _ in pairs] == [4, 4, 3]
        for view, (drawn, _) in zip(mine.views(IMAGES, epoch), replayed.epoch(epoch), strict=True):
            assert view.ratio == drawn.ratio
            assert (view.box is None) == (drawn.box is None) and (drawn.box is None or view.box.equal(drawn.box))
        for first, second in pairs:
            assert torch.equal(first.images, second.images) and torch.equal(first.indices, second.indices)
            torch.testing.assert_close(first.labels, second.labels, rtol=2**-10, atol=1e-3)
        seen.append(torch.cat([first.indices for first, _ in pairs]).tolist())
        assert sorted(seen[-1]) == list(range(COUNT))
    assert seen[0] != seen[1]


class Rounded(nn.Module):
    """A teacher whose logits survive storing."""

    def forward(self, x):
        return self.inner(x).half().float()

    def __init__(self):
        super().__init__()
        self.inner = teacher()


def trained(batches, epochs=3):
    student = network(1)
    train(
        student,
        images=IMAGES,
        labels=LABELS,
        epochs=epochs,
        batch_size=4,
        seed=5,
        augment=normalise([0.5], [0.25]),
        batches=batches,
        optimiser=adamw(0.01),
        step=given_label_step(lambda student, target: kl_soft_label(student, target, 4.0)),
    )
    return student.state_dict()


def test_training_with_stored_labels_equals_training_with_rounded_ones_on_line(tmp_path):
    """To the bit. How far rounding leads the student is the processor's: AdamW follows the sign of small gradients."""
    mine = plan()
    rounded = trained(online_batches(IMAGES, Rounded().eval(), mine, "fp32"))
    found = trained(stored(tmp_path, mine).batches(IMAGES, mine.recipe))
    assert all(torch.equal(found[name], rounded[name]) for name in found)
    exact = trained(online_batches(IMAGES, teacher(), mine, "fp32"))
    assert any(not torch.equal(found[name], exact[name]) for name in found)


def test_kept_classes_keep_their_probabilities_and_the_rest_is_shared_equally():
    logits = torch.randn(6, 20, generator=make_generator(2)) * 5
    values, classes, rest = compress(logits, 3, temperature=4.0)
    wanted = (logits / 4).softmax(1)
    found = (restore(values, classes, rest, 20) / 4).softmax(1)
    torch.testing.assert_close(found.gather(1, classes), wanted.gather(1, classes))
    assert torch.equal(classes, logits.topk(3).indices)
    others = torch.ones_like(found, dtype=torch.bool).scatter(1, classes, False)
    shared = ((1 - wanted.gather(1, classes).sum(1)) / 17)[:, None].expand(-1, 17)
    torch.testing.assert_close(found[others].view(6, 17), shared)


class Interrupted(nn.Module):
    def __init__(self, after):
        super().__init__()
        self.inner, self.left = teacher(), after

    def forward(self, x):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.inner(x)


def test_labelling_goes_on_after_an_interruption_and_ends_with_the_same_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(soft_labels, "SHARD_VIEWS", 2 * COUNT)
    mine = plan(epochs=5)
    stored(tmp_path / "whole", mine)
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path / "broken", mine, Interrupted(after=3 * 3 + 1))  # three batches an epoch, two epochs a shard
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["epochs-00000.safetensors"]
    resumed = Interrupted(after=3 * 3)
    stored(tmp_path / "broken", mine, resumed)
    assert resumed.left == 0  # only the three missing epochs were labelled
    whole = {path.name: path.read_bytes() for path in soft_labels.files_of(tmp_path / "whole")}
    assert whole == {path.name: path.read_bytes() for path in soft_labels.files_of(tmp_path / "broken")}
    assert sorted(whole) == [*(f"epochs-0000{first}.safetensors" for first in (0, 2, 4)), "soft_labels.json"]


@pytest.mark.parametrize(("crop", "mix"), [("padded", "mixup"), ("resized", "cutmix")])
def test_labels_can_be_read_without_ddbench_as_the_documentation_says(tmp_path, monkeypatch, crop, mix):
    monkeypatch.setattr(soft_labels, "SHARD_VIEWS", 2 * COUNT)
    mine = plan(crop=crop, mix=mix)
    stored(tmp_path, mine)
    text = (Path(__file__).parents[2] / "docs" / "protocols" / "fkd.md").read_text("utf-8")
    found: dict = {}
    exec(text.split("```python\n")[1].split("```")[0], found)
    for epoch in range(3):
        for number, batch in enumerate(online_batches(IMAGES, teacher(), mine, "fp32")(epoch)):
            images, logits = found["load_batch"](tmp_path, IMAGES / 255, epoch, number)
            torch.testing.assert_close(images.float(), batch.images, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(logits.float(), batch.labels, rtol=2**-10, atol=1e-3)
            assert logits.dtype == torch.float16


@pytest.mark.parametrize(("top_k", "label_bytes"), [(None, 2 * CLASSES), (2, 4 * 2 + 2)])
def test_bytes_per_image_and_epoch(tmp_path, top_k, label_bytes):
    from safetensors.numpy import load_file

    stored(tmp_path, plan(epochs=1, top_k=top_k, mix="cutmix"))
    shard = load_file(tmp_path / "epochs-00000.safetensors")
    per_batch = sum(shard.pop(name).nbytes for name in ("mix_ratio", "mix_box"))
    assert per_batch == 3 * (8 + 4 * 2)
    assert sum(array.nbytes for array in shard.values()) == COUNT * (4 + 4 * 2 + 1 + 4 + label_bytes)
    if top_k:
        assert shard["top_classes"].dtype == np.uint16


def test_what_is_not_done_is_not_stored(tmp_path):
    from safetensors.numpy import load_file

    stored(tmp_path, plan(epochs=1, crop="none", flip=False, mix="none"))
    assert set(load_file(tmp_path / "epochs-00000.safetensors")) == {"image", "logits"}


def test_logits_beyond_half_precision_stay_finite():
    assert torch.isfinite(soft_labels._half(torch.tensor([1e9, -1e9]))).all()


def test_a_folder_of_another_format_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no readable soft_labels\.json"):
        SoftLabels(tmp_path)
    (tmp_path / "soft_labels.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="format 99"):
        SoftLabels(tmp_path)


def test_epochs_that_were_not_stored_are_refused(tmp_path):
    with pytest.raises(IndexError, match="epoch 3 of 3"):
        next(stored(tmp_path, plan()).epoch(3))


def test_parts_of_a_batch_are_averaged():
    seen = []

    def forward(x):
        seen.append(len(x))
        return x.flatten(1)[:, :2]

    batch = Batch(torch.rand(7, 1, 2, 2), torch.rand(7, 2), torch.arange(7))
    step = given_label_step(lambda student, target: (student - target).square().mean(), part_size=4)
    loss = step(forward, batch, torch.Generator())
    errors = (batch.images.flatten(1)[:, :2] - batch.labels).square()
    assert seen == [4, 3]
    torch.testing.assert_close(loss, (errors[:4].mean() + errors[4:].mean()) / 2)
