"""Forgetting, EL2N, GraNd and CCS: values worked out by hand, and the recorded training behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddbench import UsageError
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.methods.coresets import scores  # noqa: E402
from ddbench_plugins.methods.coresets.recording import Record, norms_of, recipe_of  # noqa: E402
from ddbench_plugins.training.engine import Loop, copied  # noqa: E402
from ddbench_plugins.training.loop import train  # noqa: E402
from ddbench_plugins.training.optimisers import sgd  # noqa: E402
from ddbench_plugins.training.steps import Batch, hard_label_step  # noqa: E402
from torch import nn  # noqa: E402

TOY = toy_dataset(channels=3)
QUICK = {"network": "convnet-1", "epochs": "3"}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("sequence", "events"),
    [("1111", 0), ("0111", 0), ("1011", 1), ("1010", 2), ("0101", 1), ("1000", 1), ("0000", 4), ("0001", 0)],
)
def test_forgetting_events_of_a_sequence(sequence, events):
    assert scores.forgetting_events(np.array([[c == "1"] for c in sequence])).tolist() == [events]


def test_el2n_of_given_probabilities():
    found = scores.error_norms(np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [1 / 3] * 3]), np.array([0, 0, 0, 2]))
    assert found == pytest.approx([0, np.sqrt(0.5), np.sqrt(2), np.sqrt(6) / 3])


def test_grand_of_a_linear_network_in_closed_form():
    """The gradient of Wx + b is (p − y)·(x, 1), an outer product: its norm is that of both factors."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double().eval()
    images, labels = torch.randn(6, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    error = network(images).softmax(1) - nn.functional.one_hot(labels, 4)
    wanted = error.norm(dim=1) * (images.flatten(1).square().sum(1) + 1).sqrt()
    torch.testing.assert_close(norms_of(network, images, labels), wanted)


def test_grand_is_what_backward_gives_one_image_at_a_time(ctx):
    network = replace(ctx, _dataset=TOY).build_network("convnet-1-bn", seed=0).eval()
    size = TOY.image_size
    images, labels = torch.randn(3, 3, size, size), torch.tensor([0, 2, 1])
    for image, label, norm in zip(images, labels, norms_of(network, images, labels), strict=True):
        network.zero_grad()
        nn.functional.cross_entropy(network(image[None]), label[None]).backward()
        wanted = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
        torch.testing.assert_close(norm, wanted, rtol=1e-4, atol=1e-5)


def test_among_equals_the_generator_decides():
    order = scores.ranked(np.array([2.0, 0, 1, 0, 2]), rng())
    assert {*order[:2]} == {1, 3}
    assert order[2] == 2
    assert len({tuple(scores.ranked(np.zeros(5), rng(seed))) for seed in range(9)}) > 5


@pytest.mark.parametrize(
    ("counts", "budget", "taken"),
    [
        ([5, 5, 5], 6, [2, 2, 2]),
        ([1, 9, 9], 9, [1, 4, 4]),  # what the first lacks, the others give
        ([9, 0, 9], 5, [2, 0, 3]),
        ([3, 8, 1], 12, [3, 8, 1]),
        ([4, 2, 3, 5], 2, [1, 0, 0, 1]),  # fewer than strata: the fullest ones
    ],
)
def test_strata_share_the_budget(counts, budget, taken):
    assert scores.shares(np.array(counts), budget).tolist() == taken


def test_strata_are_equally_wide_and_sampled_alike():
    values = np.array([0, 1, 2, 3, 9, 10.0])  # of 2 strata: below 5, from 5 on
    for seed in range(5):
        drawn = scores.stratified(values, 4, 2, rng(seed))
        assert {4, 5} <= {*drawn}
        assert len({*drawn} & {0, 1, 2, 3}) == 2
    assert sorted(scores.stratified(np.ones(3), 3, 50, rng())) == [0, 1, 2]
    assert sorted(scores.stratified(values, 6, 50, rng())) == list(range(6))


class Memory:
    def __init__(self):
        self.states = []

    def save(self, state):
        self.states.append(copied(state))

    def load(self):
        return copied(self.states[-1]) if self.states else None


def test_a_record_notes_what_was_right_and_by_what_margin():
    record = Record(3, 2, Memory())
    step = record.noted(hard_label_step())
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.1, 0.6]]).log()
    batch = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.tensor([2, 0]))
    loss = step(lambda images: logits, batch, torch.Generator())
    assert loss.item() == pytest.approx(-(np.log(0.7) + np.log(0.1)) / 2)  # the loss is as it was
    step(lambda images: logits.flip(1)[:1], Batch(*(part[:1] for part in batch)), torch.Generator())
    assert record.correct.tolist() == [[False, False, True], [False, False, False]]
    assert record.margin.tolist() == pytest.approx([-0.5, 0, 0.5 - 0.6])
    assert record.seen.tolist() == [1, 0, 2]
    assert record.accuracy(0) == pytest.approx(1 / 3)


def test_a_resumed_record_has_the_notes_of_an_undisturbed_one():
    def recorded(kept, epochs):
        torch.manual_seed(0)
        network, record = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), Record(8, 4, kept)
        images, labels = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 2
        settings = {"images": images, "labels": labels, "batch_size": 3, "optimiser": sgd(0.1), "seed": 3}
        loop = Loop(checkpoint=record, checkpoint_seconds=0)
        train(network, epochs=epochs, step=record.noted(hard_label_step()), loop=loop, **settings)
        return record

    kept = Memory()
    whole = recorded(kept, 4)
    kept.states = kept.states[:2]  # killed after the second epoch
    again = recorded(kept, 4)
    assert whole.seen.tolist() == again.seen.tolist() == [4] * 8
    assert (whole.correct == again.correct).all()
    assert (whole.margin == again.margin).all()


def prepared(ctx, name, ipc=2, seed=0, preset="", **options):
    whole = replace(ctx, _dataset=TOY, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(whole, name, ipc, seed)


def test_all_share_one_recorded_training(ctx):
    made = {name: distil(prepared(ctx, name, **QUICK)) for name in ("forgetting", "el2n", "grand", "ccs")}
    trained = {step["key"] for one in made.values() for step in one.steps if step["step"] == "recorded"}
    assert len(trained) == 1
    for one in made.values():
        assert len({*one.content.source_ids}) == 2 * TOY.num_classes
        assert one.content.extra["recorded"]["epochs"] == 3
    easy = distil(prepared(ctx, "el2n", keep="easiest", **QUICK)).content.source_ids
    assert not {*easy} & {*made["el2n"].content.source_ids}
    more = distil(prepared(ctx, "el2n", runs="2", **QUICK))
    assert sum(step["step"] == "recorded" for step in more.steps) == 2
    drawn, fixed = (
        [distil(prepared(ctx, name, seed=seed, **QUICK)).content.source_ids for seed in (0, 1)]
        for name in ("ccs", "el2n")
    )
    assert drawn[0] != drawn[1]
    assert fixed[0] == fixed[1]


def test_all_images_of_a_class_can_be_asked_for(ctx):
    every = TOY.train.of_class(0).size
    assert len(distil(prepared(ctx, "ccs", ipc=every, **QUICK)).content.labels) == len(TOY.train)


def test_paper_scale_is_the_papers(ctx):
    options = prepared(ctx, "el2n", preset="paper").ctx.options
    assert (options.network, options.epochs, options.runs, options.keep) == ("modified-resnet-18", 200, 10, "hardest")
    assert recipe_of(replace(ctx, _dataset=TOY), "convnet-1", 7).epochs == 7


def test_a_training_that_ends_before_its_early_network_is_refused(ctx):
    with pytest.raises(UsageError, match="after epoch 4, but its training has 3"):
        distil(prepared(ctx, "el2n", early="4", **QUICK))
