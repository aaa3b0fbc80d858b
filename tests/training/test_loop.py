import copy
import io
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from ddbench_plugins.networks import convnet
from ddbench_plugins.training import augment, engine, steps
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import train
from ddbench_plugins.training.optimisers import adamw, sgd
from ddbench_plugins.training.predict import evaluate, memory_layout, predict
from ddbench_plugins.training.schedules import idc_multi_step, one_cycle
from ddbench_plugins.training.seeding import seeded, stream_seed
from torch import nn

from ddbench.errors import DivergedError


def toy_set(n=40, seed=0):
    """Two classes of 8×8 grey images, bright above or bright below."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 80, (n, 1, 8, 8), generator=draws, dtype=torch.uint8)
    images[labels == 0, :, :4] += 120
    images[labels == 1, :, 4:] += 120
    return images, labels


def small_network(norm="batch", seed=0):
    with seeded(seed):
        return convnet.build(in_channels=1, image_size=8, num_classes=2, depth=2, width=8, norm=norm)


IMAGES, LABELS = toy_set()
SCALE = augment.normalise([0.4], [0.3])
SETTINGS = {
    "images": IMAGES,
    "labels": LABELS,
    "batch_size": 16,
    "optimiser": sgd(0.05),
    "augment": augment.compose(SCALE, lambda x, g: augment.random_crop(x, g, 1), augment.random_flip),
    "seed": 3,
}


class MemoryCheckpoint:
    """Keeps states as ``torch.save`` bytes, the way a file would."""

    def __init__(self):
        self.states = []

    def save(self, state):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.states.append(buffer.getvalue())

    def load(self):
        return torch.load(io.BytesIO(self.states[-1]), weights_only=True) if self.states else None


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_network_learns(precision):
    network = small_network()
    result = train(network, **SETTINGS, loop=Loop(precision=precision), epochs=8, step=steps.hard_label_step())
    test_images, test_labels = toy_set(60, seed=9)
    measured = evaluate(network, test_images, test_labels, transform=SCALE)
    assert measured.accuracy > 0.95
    assert measured.correct.shape == (60,) and measured.correct.double().mean() == measured.accuracy
    assert len(result.losses) == 8 and result.losses[-1] < result.losses[0]


def test_a_seed_gives_one_result_and_another_seed_another():
    networks = [small_network() for _ in range(3)]
    for network, seed in zip(networks, (3, 3, 4), strict=True):
        train(network, **{**SETTINGS, "seed": seed}, epochs=2)
    assert equal(networks[0], networks[1])
    assert not equal(networks[0], networks[2])


@pytest.mark.parametrize("optimiser", [sgd(0.05), adamw(0.003)])
def test_a_resumed_training_ends_bit_identically(optimiser):
    settings = {**SETTINGS, "optimiser": optimiser, "schedule": one_cycle(5), "schedule_per_step": True}
    settings["step"] = steps.hard_label_step(cutmix_probability=0.5)
    whole = small_network()
    expected = train(whole, **settings, epochs=5, test=lambda n: 0.5, test_epochs=range(5))

    kept = MemoryCheckpoint()

    def interrupt(done, total, text=""):
        if done == 3:
            raise KeyboardInterrupt

    broken = small_network()
    with pytest.raises(KeyboardInterrupt):
        train(
            broken,
            **settings,
            epochs=5,
            loop=Loop(checkpoint=kept, checkpoint_seconds=0, progress=interrupt),
            test=lambda n: 0.5,
            test_epochs=range(5),
        )
    resumed = small_network(seed=99)
    result = train(resumed, **settings, epochs=5, loop=Loop(checkpoint=kept), test=lambda n: 0.5, test_epochs=range(5))
    assert equal(whole, resumed)
    assert result.losses == expected.losses
    assert result.tests == expected.tests == [(e, 0.5) for e in range(5)]
    assert result.best == 0.5


def test_a_state_is_kept_when_it_is_due_but_for_the_end(monkeypatch):
    """On a clock that a look at moves by 100 s: one look at the start and one after each epoch."""
    clock = SimpleNamespace(monotonic=partial(next, iter(range(0, 10_000, 100))))
    monkeypatch.setattr(engine, "time", clock)
    monkeypatch.setattr(engine, "SHARE", 1e9)  # keeping a state takes 100 s, too
    kept, rare = MemoryCheckpoint(), MemoryCheckpoint()
    train(small_network(), **SETTINGS, epochs=3, loop=Loop(checkpoint=kept))  # due after 60 s by itself
    assert len(kept.states) == 2
    train(small_network(), **SETTINGS, epochs=3, loop=Loop(checkpoint=rare, checkpoint_seconds=301))
    assert not rare.states


def test_epochs_of_tests_without_a_test_are_nothing():
    assert train(small_network(), **SETTINGS, epochs=1, test_epochs=[0]).tests == []


def test_a_checkpoint_of_another_training_is_refused():
    kept = MemoryCheckpoint()
    train(small_network(), **SETTINGS, epochs=2, loop=Loop(checkpoint=kept, checkpoint_seconds=0))
    with pytest.raises(ValueError, match="another training"):
        train(small_network(), **SETTINGS, epochs=3, loop=Loop(checkpoint=kept))


def test_every_image_is_seen_once_per_epoch_and_the_last_batch_is_short():
    seen = []

    def record(forward, batch, generator):
        seen.append(batch.indices.tolist())
        return forward(batch.images).square().mean()

    train(small_network(), **SETTINGS, epochs=2, step=record)
    assert [len(chunk) for chunk in seen] == [16, 16, 8] * 2
    epochs = [[i for chunk in part for i in chunk] for part in (seen[:3], seen[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("batch", "expected"), [(16, (16 * 16 + 16 * 16 + 8 * 8) / 40), (40, 40), (100, 40)])
def test_the_loss_of_an_epoch_is_the_mean_over_images_not_over_batches(batch, expected):
    def number_of_images(forward, batch, generator):
        return 0 * forward(batch.images).mean() + len(batch.images)

    result = train(small_network(), **{**SETTINGS, "batch_size": batch}, epochs=2, step=number_of_images)
    assert result.losses == pytest.approx([expected] * 2)


def test_learning_rates_and_tests_follow_the_plan():
    rates, tests = [], []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    made = []

    def factory(network):
        made.append(Recorder(network.parameters(), 0.1))
        return made[-1]

    def test(network):
        tests.append(network.training)
        return len(tests) / 10

    result = train(
        small_network(),
        **{**SETTINGS, "batch_size": 40, "optimiser": factory},
        epochs=6,
        schedule=idc_multi_step(6),
        restart_optimiser_at={4},
        test=test,
        test_epochs={3, 5},
    )
    assert rates == pytest.approx([0.1] * 4 + [0.02, 0.004])
    assert result.tests == [(3, 0.1), (5, 0.2)] and result.best == 0.2
    assert len(made) == 2


def test_a_schedule_per_step_moves_inside_an_epoch():
    moments = []

    def schedule(epoch):
        moments.append(epoch)
        return 1.0

    train(small_network(), **SETTINGS, epochs=2, schedule=schedule, schedule_per_step=True)
    assert moments == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])


def test_a_schedule_per_epoch_stays_within_it():
    moments = []
    train(small_network(), **SETTINGS, epochs=2, schedule=lambda epoch: moments.append(epoch) or 1.0)
    assert moments == [0, 0, 0, 1, 1, 1]


def test_a_diverging_training_stops():
    with pytest.raises(DivergedError, match="ConvNet is not finite in step 1 of 2"):
        train(small_network(), **SETTINGS, epochs=2, step=lambda f, b, g: f(b.images).mean() * float("nan"))


@pytest.mark.parametrize(
    "call", [lambda n, x, y: train(n, **{**SETTINGS, "images": x, "labels": y}, epochs=1), evaluate]
)
def test_empty_sets_are_refused(call):
    with pytest.raises(ValueError, match="empty set"):
        call(small_network(), IMAGES[:0], LABELS[:0])


def test_dropout_draws_from_the_seed_and_leaves_the_global_generator_alone():
    def network():
        with seeded(0):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 2))

    first, second = network(), network()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(first, **SETTINGS, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    train(second, **SETTINGS, epochs=2)
    assert equal(first, second)


def test_real_valued_labels():
    labels = torch.nn.functional.one_hot(LABELS, 2).float() * 0.8 + 0.1
    result = train(small_network(), **{**SETTINGS, "labels": labels}, epochs=3)
    assert result.losses[-1] < result.losses[0]


def test_soft_labels_come_from_the_teacher_on_mixed_images():
    teacher = small_network()
    train(teacher, **SETTINGS, epochs=5)
    teacher.eval()
    inputs = []
    teacher.register_forward_hook(lambda _m, args, _o: inputs.append(args[0]))
    student = small_network(seed=5)
    before = copy.deepcopy(teacher.state_dict())
    result = train(
        student,
        **{**SETTINGS, "optimiser": adamw(0.01)},
        epochs=15,
        step=steps.soft_label_step(teacher, temperature=20),
    )
    assert result.losses[-1] < result.losses[0]
    assert evaluate(student, IMAGES, LABELS, transform=SCALE).accuracy > 0.9
    assert all(torch.equal(value, teacher.state_dict()[key]) for key, value in before.items())


def test_student_and_teacher_see_the_same_mixed_images():
    teacher, student = small_network().eval(), small_network(seed=1)
    seen = []
    for network in (teacher, student):
        network.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    x = torch.rand(8, 1, 8, 8)
    batch = steps.Batch(x, LABELS[:8], torch.arange(8))
    steps.soft_label_step(teacher, temperature=4)(student, batch, torch.Generator().manual_seed(1))
    assert len(seen) == 2 and torch.equal(*seen) and not torch.equal(seen[0], x)


def test_batchnorm_updated_twice_equals_two_passes():
    twice, once = small_network(), small_network()
    steps.update_batchnorm_twice(once)
    for seed in range(3):
        x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        twice(x), twice(x), once(x)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(once.features[1], name), getattr(twice.features[1], name))


def test_prediction_restores_the_mode_and_matches_a_plain_pass():
    network = small_network().train()
    logits = predict(network, IMAGES, transform=SCALE, batch=7, precision="fp32")
    assert network.training
    network.eval()
    with torch.no_grad():
        expected = network(SCALE(IMAGES.float() / 255, torch.Generator()))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert memory_layout(nn.Linear(2, 2)) == torch.contiguous_format


def test_seeds_depend_on_every_part_and_its_place():
    assert len({stream_seed(1), stream_seed(0, 1), stream_seed(1, 1), stream_seed(1, 2), stream_seed(2, 1)}) == 5
    assert 0 <= stream_seed(2**40, 7) < 2**63


def test_half_precision_is_what_the_forward_pass_is_computed_in():
    seen = []
    network = small_network()
    network.classifier.register_forward_hook(
        lambda m, inputs, output: seen.append(output.dtype) if m.training else None
    )
    train(network, **SETTINGS, loop=Loop(precision="fp16"), epochs=1)
    assert set(seen) == {torch.float16}


def test_small_gradients_survive_half_precision_because_the_loss_is_scaled():
    """Gradients of 1e-9 by the logits would be 0 in fp16; three batches move the bias by 1e-8 · 1e6 each."""

    def tiny(forward, batch, generator):
        return forward(batch.images).float()[:, 0].mean() * 1e-8

    network = small_network()
    start = network.classifier.bias.detach().clone()
    bias_only = {"optimiser": lambda network: torch.optim.SGD([network.classifier.bias], 1e6)}
    train(network, **{**SETTINGS, **bias_only}, loop=Loop(precision="fp16"), epochs=1, step=tiny)
    moved = (network.classifier.bias - start).detach()
    torch.testing.assert_close(moved, torch.tensor([-0.03, 0.0]), rtol=0.02, atol=1e-6)


def test_half_precision_resumes_with_its_scale():
    whole, kept = small_network(), MemoryCheckpoint()
    loop = Loop(precision="fp16", checkpoint=kept)
    train(whole, **SETTINGS, epochs=3, loop=Loop(precision="fp16"))

    def interrupt(done, total, text=""):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_network(), **SETTINGS, epochs=3, loop=replace(loop, checkpoint_seconds=0, progress=interrupt))
    assert kept.load()["scaler"]["scale"] > 1
    resumed = small_network(seed=99)
    train(resumed, **SETTINGS, epochs=3, loop=loop)
    assert equal(whole, resumed)


def test_gradients_that_overflow_at_every_scale_end_the_training():
    """The loss is finite, its gradient is not: without a word, no step would ever be made."""

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf")

    def step(forward, batch, generator):
        return Broken.apply(forward(batch.images)).float().mean()

    with pytest.raises(DivergedError, match="not finite in fp16"):
        train(small_network(), **{**SETTINGS, "batch_size": 1}, loop=Loop(precision="fp16"), epochs=1, step=step)
