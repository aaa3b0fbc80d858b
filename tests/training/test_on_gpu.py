"""Students of every protocol and teachers on a pretended GPU: on one device, with the numbers of the CPU."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from ddbench_plugins.evaluators.lrs import evaluator as lrs
from ddbench_plugins.evaluators.lrs import reference
from ddbench_plugins.networks import native
from ddbench_plugins.teachers import observers
from ddbench_plugins.teachers.recipes import TeacherRecipe
from ddbench_plugins.teachers.training import train_teacher
from ddbench_plugins.training import augment, engine, steps
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import train
from ddbench_plugins.training.optimisers import adamw, sgd
from ddbench_plugins.training.predict import predict
from ddbench_plugins.training.seeding import seeded
from pretended_gpu import DeviceError, pretended
from registered import build_network

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.runtime.machine import Machine
from ddbench.testing.toy import toy_dataset

BATCH = 4
#: Evaluators with options that between them reach every augmentation, mixing, loss and optimiser.
PROTOCOLS: list[tuple[str, dict[str, Any]]] = [
    ("rded", {"factor": 2}),
    ("minimax", {}),
    ("minimax", {"augment": "imagenet", "cutmix": 1.0}),
    ("idc", {"factor": 2, "cutout": True}),
    ("dc", {"augment": "dsa"}),
    ("dc", {"augment": "crop_scale_rotate"}),
    ("dc", {"augment": "crop_noise"}),
    ("datm", {}),
    ("fkd", {"labels": "online", "mix": "cutmix", "crop": "resized", "top_k": 2}),
    ("fkd", {"labels": "stored", "mix": "mixup", "accumulation": 2}),
]
NAMES = [f"{name} {' '.join(map(str, options.values()))}" for name, options in PROTOCOLS]


@dataclass
class Teacher:
    """A network that was not trained."""

    network: Any = field(compare=False)
    digest: str = "0"
    accuracy: float = 1.0

    @classmethod
    def of(cls, ctx: Any, *_: Any, **__: Any) -> Teacher:
        network = ctx.build_network("convnet-1-bn", seed=1)
        return cls(network.to(ctx.machine.device).eval().requires_grad_(False))

    def module(self) -> torch.nn.Module:
        return self.network

    def describe(self) -> dict[str, Any]:
        return {"network": "convnet-1-bn"}


@pytest.fixture
def evaluate(ctx, monkeypatch):
    """Return a function that trains and tests a student of a protocol for one epoch of ``count`` steps."""
    monkeypatch.setattr(observers, "get_teacher", Teacher.of)
    monkeypatch.setattr(reference, "get_teacher", Teacher.of)
    monkeypatch.setattr(lrs, "_teachers", lambda ctx: [Teacher.of(ctx)])
    data = toy_dataset(per_class=12, channels=3)
    images, labels = data.arrays("train")

    def run(name, options, count=6, machine=None, network="convnet-1-bn", epochs=1):
        mine = replace(ctx, _dataset=data, machine=machine or Machine("cuda", "fp32"))
        mine = replace(mine, explicit={"evaluator": {"epochs": epochs, "batch_size": BATCH, **options}})
        made, mine, _ = prepare_evaluator(mine, name, network, 4)
        size = count * BATCH // (4 if options.get("factor") == 2 and name == "idc" else 1)
        return made.evaluate(mine, ddbench.DistilledSet(images[:size], labels[:size]), 0)

    return run


@pytest.mark.parametrize(("name", "options"), PROTOCOLS, ids=NAMES)
def test_students_get_the_numbers_of_the_cpu(evaluate, name, options):
    wanted = evaluate(name, options, machine=Machine("cpu", "fp32"))
    with pretended() as gpu:
        found = evaluate(name, options)
    assert gpu.launches > 100
    assert found.metrics["final_loss"] == pytest.approx(wanted.metrics["final_loss"], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("name", "options"), PROTOCOLS, ids=NAMES)
def test_no_step_of_a_student_makes_the_host_wait(evaluate, name, options):
    with pretended() as gpu:
        cost = gpu.cost_of_a_step(lambda count: evaluate(name, options, count, Machine("cuda", "fp16")))
    assert cost.waits == {}
    # One layout of numbers: its graph, and the copy of the numbers.
    if name == "rded" or "imagenet" in options.values() or "online" in options.values():
        assert cost.launches == 2


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_all_networks_of_lrs_are_trained_on_one_device(evaluate, labels):
    options = {"labels": labels, "lr": 0.01, "ars": True, "real": "reference", "crop_padding": 1}
    with pretended() as gpu:
        evaluate("lrs", options, machine=Machine("cuda", "fp16"))
    assert gpu.kernels["_amp_update_scale_"] > 0


def test_teachers_are_trained_on_one_device():
    recipe = TeacherRecipe(
        epochs=2, batch_size=8, optimiser="adamw", lr=0.01, weight_decay=0.05, floor=0, crop_padding=1
    )
    images, labels = toy_dataset().arrays("train")
    given = {"images": torch.tensor(images.transpose(0, 3, 1, 2)), "labels": torch.tensor(labels)}
    given |= {"recipe": recipe, "mean": [0.5], "std": [0.3], "seed": 0}
    networks = [build_network("convnet-1-bn", in_channels=1, image_size=8, num_classes=3) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    wanted = train_teacher(networks[0], **given)
    with pretended():
        found = train_teacher(networks[1], **given, loop=Loop(device="cuda"))
    assert found.losses == pytest.approx(wanted.losses, rel=1e-5)


class Kept:
    """Keeps the last state on the host, as a step's folder does."""

    def __init__(self):
        self.state = None

    def load(self):
        return self.state

    def save(self, state):
        self.state = engine.copied(state)


@pytest.mark.parametrize("optimiser", [sgd(0.05), adamw(0.003)])
def test_a_training_that_is_killed_after_its_graphs_were_captured_ends_as_an_undisturbed_one(optimiser):
    def killed(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    given = {"count": 6, "epochs": 5, "optimiser": optimiser, "restart_optimiser_at": [4]}
    with pretended():
        wanted, kept = short_training(**given), Kept()
        with pytest.raises(KeyboardInterrupt):
            short_training(**given, checkpoint=kept, checkpoint_seconds=0, progress=killed)
        assert short_training(**given, checkpoint=kept).losses == pytest.approx(wanted.losses, rel=1e-6)


def test_where_a_capture_fails_steps_run_as_they_are_written(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing")

    with pretended():
        wanted = short_training(count=6)
        monkeypatch.setattr(torch.cuda, "graph", fails)
        with pytest.warns(UserWarning, match="without a CUDA graph, .*: operation not permitted"):
            found = short_training(count=6)
    assert found.losses == pytest.approx(wanted.losses, rel=1e-6)


def test_a_test_set_is_copied_once_and_logits_are_read_once():
    images = torch.tensor(toy_dataset().arrays("test")[0].transpose(0, 3, 1, 2))
    network = build_network("convnet-1-bn", in_channels=1, image_size=8, num_classes=3)
    wanted = predict(network, images, precision="fp32")
    with pretended() as gpu:
        network.to("cuda")
        gpu.waits.clear()
        found = [predict(network, images, batch=7, precision="fp32", device="cuda") for _ in range(2)]
    assert all(logits.allclose(wanted, atol=1e-6) for logits in found)
    assert sorted(gpu.waits.values()) == [1, 2]  # the set; the logits, twice


# The test of the test ------------------------------------------------------------------------------------------------


def planted(x, generator):
    """Forget to move random numbers."""
    return x * torch.rand(len(x), 1, 1, 1, generator=generator)


def drawn_there(x, generator):
    """Draw on the device from a generator of the host."""
    return x * torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device)


def by_hand(x, generator):
    """Call a kernel of the CPU."""
    with native.kernels():
        return native.instance_norm(x, torch.ones(3, device=x.device), torch.zeros(3, device=x.device), 1e-5)


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (planted, "two devices in mul, .*test_on_gpu.py"),
        (drawn_there, "CPU generator .*test_on_gpu.py"),
        (by_hand, "native code .*native.py"),
    ],
)
def test_what_would_fail_on_a_card_fails(operation, reason):
    if operation is by_hand and native.compiled() is None:
        pytest.skip("no compiler")
    with pretended(), pytest.raises(DeviceError, match=rf"{reason}:\d+"):
        short_training(operation)


def short_training(operation=None, count=2, *, epochs=1, optimiser=None, step=None, restart_optimiser_at=(), **loop):
    """Train for epochs of ``count`` steps."""
    images, labels = toy_dataset(channels=3).arrays("train")
    size, scaled = count * BATCH, augment.normalise([0.5] * 3, [0.3] * 3)
    with seeded(0):
        network = build_network("convnet-1-bn", in_channels=3, image_size=8, num_classes=3)
    return train(
        network,
        images=torch.tensor(images.transpose(0, 3, 1, 2))[:size],
        labels=torch.tensor(labels)[:size],
        epochs=epochs,
        batch_size=BATCH,
        optimiser=optimiser or sgd(0.01),
        seed=0,
        step=step,
        restart_optimiser_at=restart_optimiser_at,
        augment=augment.compose(scaled, *([operation] if operation else [augment.random_crop.of(padding=1)])),
        loop=Loop(device="cuda", **loop),
    )


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda loss: loss * loss.item(), "local_scalar_dense"),
        (lambda loss: loss + loss.detach().cpu().cuda(), "copy to the host"),
        (lambda loss: loss + 0 * loss[loss > 0].sum(), "mask"),
        (lambda loss: loss + 0 * torch.tensor([1.0]).to(loss.device).sum(), "copy from the host"),
        (lambda loss: loss + 0 * (loss > 0).nonzero().sum(), "nonzero"),
    ],
)
def test_what_makes_the_host_wait_is_counted_by_line(step, reason):
    def waiting(forward, batch, generator):
        return step(steps.hard_label_step()(forward, batch, generator))

    with pretended() as gpu:
        cost = gpu.cost_of_a_step(lambda count: short_training(count=count, step=waiting))
    assert any(line.startswith(f"{reason}: tests/training/test_on_gpu.py") and n == 1 for line, n in cost.waits.items())


def test_pinned_memory_is_copied_without_waiting():
    with pretended() as gpu:
        there = torch.ones(3).pin_memory().to("cuda", non_blocking=True)
        assert there.is_cuda and not gpu.waits and gpu.launches == 1
        assert there.cpu().tolist() == [1, 1, 1] and gpu.waits.total() == 1


def test_a_replayed_graph_does_what_was_captured_and_nothing_else():
    with pretended() as gpu:
        weight, given = torch.ones(2, device="cuda", requires_grad=True), torch.ones(2, device="cuda")
        scale, graph = 2.0, torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            weight.grad = None
            loss = (weight * given * scale).sum()
            loss.backward()
            with torch.no_grad():
                weight -= weight.grad
        before = gpu.launches
        given.fill_(3)
        with torch.no_grad():
            weight.fill_(1)
        scale = 5.0  # frozen at 2
        graph.replay()
        assert (loss.item(), weight.tolist()) == (12, [-5, -5])
        assert gpu.launches == before + 3
        with pytest.raises(DeviceError, match="while a CUDA graph is captured"), torch.cuda.graph(graph):
            loss.item()
