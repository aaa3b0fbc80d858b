"""Steps of SGD, gone back one by one, against graphs of all of them; replays of stored steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.training.replay import XAVIER, begun, cross_entropy, replay  # noqa: E402
from ddbench_plugins.training.unroll import Unroll  # noqa: E402

TOY = toy_dataset()


def _loss(number, weights, learned):
    images, targets = learned
    hidden = torch.tanh(images[number % 2] @ weights[:12].view(4, 3))
    return cross_entropy(hidden @ weights[12:].view(3, 2), targets[number % 2])


def _problem(rates):
    draw = torch.Generator().manual_seed(0)
    weights, images, targets, by_end = (
        torch.randn(shape, dtype=torch.float64, generator=draw) for shape in ((18,), (2, 5, 4), (2, 5, 2), (18,))
    )
    return weights, (images, targets), torch.tensor(rates, dtype=torch.float64), by_end


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradients_are_those_of_one_graph_of_all_steps(momentum):
    start, learned, rates, by_end = _problem([0.3, 0.1, 0.5, 0.2])
    found = Unroll(_loss, start, learned, rates, momentum).gradients(by_end)
    inputs = [tensor.clone().requires_grad_() for tensor in (*learned, rates, start)]
    weights, velocity = inputs[3], torch.zeros_like(start)
    for number in range(4):
        (gradient,) = torch.autograd.grad(_loss(number, weights, inputs[:2]), weights, create_graph=True)
        velocity = momentum * velocity + gradient
        weights = weights - inputs[2][number] * velocity
    expected = torch.autograd.grad(weights @ by_end, inputs)
    for one, two in zip((*found.learned, found.rates, found.start), expected, strict=True):
        assert float((one - two).abs().max()) < 1e-12


def test_gradients_are_those_of_differences():
    start, learned, rates, by_end = _problem([0.3, 0.1, 0.5, 0.2])
    found = Unroll(_loss, start, learned, rates).gradients(by_end)
    for values, slope in zip((*learned, rates), (*found.learned, found.rates), strict=True):
        flat = values.view(-1)
        for place in range(len(flat)):
            sides = []
            for step in (1e-6, -2e-6):
                flat[place] += step
                sides.append(float(Unroll(_loss, start, learned, rates).end @ by_end))
            flat[place] += 1e-6
            assert float(slope.flatten()[place]) == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_steps_are_those_of_sgd(momentum):
    start, learned, _, _ = _problem([0.2])
    weights = start.clone().requires_grad_()
    sgd = torch.optim.SGD([weights], 0.2, momentum=momentum)
    for number in range(3):
        sgd.zero_grad()
        _loss(number, weights, learned).backward()
        sgd.step()
    rates = torch.full((3,), 0.2, dtype=torch.float64)
    assert torch.allclose(Unroll(_loss, start, learned, rates, momentum).end, weights.detach(), atol=1e-14)


def _schedule(**fields):
    steps = ((0, 0.1), (1, 0.2), (0, 0.05))
    return replace(ddbench.Schedule(((0, 1), (2,)), steps, "lenet", XAVIER), **fields)


def test_a_replay_is_the_unroll_of_the_same_steps(ctx):
    from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat

    mine = replace(ctx, _dataset=replace(TOY, image_size=16))
    schedule = _schedule()
    network = begun(mine, schedule, 3)
    images, targets = torch.randn(3, 1, 16, 16), torch.randn(3, 3)
    whole, start = FlatNetwork(network), flat(network)

    def loss(number, weights, learned):
        chosen = torch.tensor(schedule.batches[schedule.steps[number][0]])
        return cross_entropy(whole.logits(weights, learned[0][chosen]), learned[1][chosen])

    rates = torch.tensor([rate for _, rate in schedule.steps])
    end = Unroll(loss, start, (images, targets), rates).end
    replay(network, images, targets, schedule)
    assert torch.allclose(flat(network), end, atol=1e-6)


def test_initial_weights_follow_the_law_the_seed_or_are_the_very_ones(ctx):
    mine = replace(ctx, _dataset=replace(TOY, image_size=16))
    first, same, other = (begun(mine, _schedule(), seed) for seed in (1, 1, 2))
    for one, two, three in zip(first.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert one.ndim == 1 or not torch.equal(one, three)
        assert one.ndim > 1 or not one.any()
    fixed = begun(mine, _schedule(seed=1), 7)
    assert torch.equal(next(fixed.parameters()), next(first.parameters()))
    count = sum(parameter.numel() for parameter in first.parameters())
    kept = begun(mine, _schedule(weights=np.arange(count, dtype=np.float32), initialisation="kept"), 0)
    assert next(kept.parameters()).flatten()[:3].tolist() == [0, 1, 2]
    for wrong, message in (
        (_schedule(initialisation="uniform"), "'uniform' is not known"),
        (_schedule(weights=np.zeros(3, np.float32)), "has 3 initial weights"),
    ):
        with pytest.raises(ddbench.DataError, match=message):
            begun(mine, wrong, 0)
