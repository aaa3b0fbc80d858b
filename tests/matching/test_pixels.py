"""Real batches, the images that are optimised, and the loop around them."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images  # noqa: E402
from ddbench_plugins.matching.optimise import optimise, run  # noqa: E402
from ddbench_plugins.training.engine import Loop  # noqa: E402

from ddbench.errors import DivergedError  # noqa: E402
from ddbench.runtime.machine import Machine  # noqa: E402


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def real(digits):
    return RealImages(digits)


def test_batches_are_normalised_images_of_the_class_without_repetition(real, digits):
    images, labels = digits.arrays("train")
    wanted = (images[labels == 3].transpose(0, 3, 1, 2) / 255 - digits.mean[0]) / digits.std[0]
    batch = real.draw(3, 40, _generator())
    rows = {row.tobytes() for row in np.round(wanted, 3).astype(np.float32)}
    found = {row.numpy().tobytes() for row in torch.from_numpy(np.round(batch.numpy(), 3))}
    assert len(found) == 40
    assert found <= rows
    assert torch.equal(real.draw(3, 40, _generator()), batch)
    assert not torch.equal(real.draw(3, 40, _generator(1)), batch)
    assert len(real.draw(3, 10**6, _generator())) == (labels == 3).sum()


def test_images_begin_as_noise_or_as_training_images(real, digits):
    noise = initial_images(real, 5, "noise", 7)
    assert noise.shape == (50, 1, 16, 16)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    begun = initial_images(real, 2, "real", 7)
    for label in range(10):
        members = real.at(real.members(label))
        for image in begun[2 * label : 2 * label + 2]:
            assert float((members - image).abs().amax((1, 2, 3)).min()) == 0
    assert not torch.equal(begun, initial_images(real, 2, "real", 8))


def test_nothing_is_clamped_and_the_space_is_declared():
    images = SyntheticImages(torch.full((20, 1, 16, 16), 9.0), 2, 0.1)
    made = images.distilled()
    assert made.space == "normalized"
    assert made.images.shape == (20, 16, 16, 1)
    assert (made.images == 9).all()
    assert made.labels.tolist() == [label for label in range(10) for _ in range(2)]


class _Descent:
    """Pulls images to a target that depends on the step."""

    def __init__(self):
        self.images = SyntheticImages(torch.zeros(2, 1, 2, 2), 1, 0.1)
        self.fail_at = -1

    def step(self, number):
        target = torch.randn(2, 1, 2, 2, generator=_generator(number))
        loss = (self.images.images - target).square().sum()
        self.images.optimiser.zero_grad()
        loss.backward()
        self.images.optimiser.step()
        return math.nan if number == self.fail_at else float(loss.detach())

    def state(self):
        return self.images.state()

    def restore(self, state):
        self.images.restore(state)


class _Memory:
    def __init__(self, kill_after=0):
        self.state, self.saves, self.kill_after = None, 0, kill_after

    def load(self):
        return self.state

    def save(self, state):
        import copy

        self.state = copy.deepcopy(state)
        self.saves += 1
        if self.saves == self.kill_after:
            raise KeyboardInterrupt


def test_sgd_has_half_its_momentum():
    work = _Descent()
    before = [torch.randn(2, 1, 2, 2, generator=_generator(number)) for number in range(2)]
    run(work, 2)
    first = 0.1 * 2 * before[0]
    second = first - 0.1 * (2 * (first - before[1]) + 0.5 * -2 * before[0])
    torch.testing.assert_close(work.images.images.detach(), second)


@pytest.mark.parametrize("kill_after", [1, 4])
def test_a_killed_loop_ends_with_the_same_images(kill_after):
    undisturbed, told = _Descent(), []
    loss = run(undisturbed, 6, Loop(progress=lambda *news: told.append(news)))
    assert [each[:2] for each in told] == [(done, 6) for done in range(1, 7)]
    assert told[-1][2] == {"loss": loss}
    memory = _Memory(kill_after)
    with pytest.raises(KeyboardInterrupt):
        run(_Descent(), 6, Loop(checkpoint=memory, checkpoint_seconds=0))
    resumed = _Descent()
    assert run(resumed, 6, Loop(checkpoint=memory, checkpoint_seconds=0)) == loss
    assert torch.equal(resumed.images.images, undisturbed.images.images)


def test_what_comes_after_a_step_sees_its_images():
    work, seen = _Descent(), {}
    run(work, 5, after=lambda done: seen.update({done: work.images.distilled().images}))
    assert list(seen) == [1, 2, 3, 4, 5]
    shorter = _Descent()
    run(shorter, 2)
    assert (seen[2] == shorter.images.distilled().images).all()


def test_snapshots_are_of_whole_iterations_before_the_last():
    kept, options = [], SimpleNamespace(snapshots=(1, 3))
    ctx = SimpleNamespace(
        options=options,
        dataset=SimpleNamespace(zca=None),
        progress=lambda description, total: nullcontext(lambda *news: None),
        keep=lambda name, images, **told: kept.append((name, told)),
        machine=Machine(),
        checkpoint=None,
        checkpoint_seconds=60,
    )
    work = _Descent()
    optimise(ctx, "matching", work, work.images, iterations=3, steps=2, also=[2], without={"keep": "last"})
    told = {"snapshots": (), "keep": "last"}
    assert kept == [("000001", {"iterations": 1, **told}), ("000002", {"iterations": 2, **told})]


def test_a_loss_that_is_not_finite_stops_the_run():
    work = _Descent()
    work.fail_at = 3
    with pytest.raises(DivergedError, match="step 4 of 6"):
        run(work, 6)
