"""The released way that ddbench is timed against really trains, and does the same work as ddbench's evaluators."""

from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ddbench_plugins.evaluators import rded as our_rded
from ddbench_plugins.evaluators.dc import evaluator as our_dc
from ddbench_plugins.networks import convnet
from ddbench_plugins.training import idc_recipe, schedules
from safetensors.torch import save_file

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
IPC = 10


@pytest.fixture(scope="module")
def bench(tmp_path_factory, digits):
    """The modules of the benchmark, and a task on the embedded digits."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        found = {name: importlib.import_module(name) for name in ("evaluators", "prepare")}
        for name in ("common", "dc", "dsa", "minimax", "rded"):
            found[name] = importlib.import_module(f"released.{name}")
    finally:
        sys.path.remove(str(BENCHMARKS))
    folder = tmp_path_factory.mktemp("task")
    images, labels = digits.arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == label)[:IPC] for label in range(10)])
    found["prepare"].write_tree(folder / "train", images[chosen], labels[chosen])
    some, side = np.arange(150), digits.image_size
    found["prepare"].write_tree(folder / "test", digits.test.images.batch(some, side), digits.test.labels[some])
    teacher = convnet.build(in_channels=1, image_size=side, num_classes=10, norm="batch")
    save_file(
        {name: value.contiguous() for name, value in teacher.state_dict().items()}, folder / "teacher.safetensors"
    )
    task = found["common"].Task(
        train=folder / "train",
        test=folder / "test",
        size=side,
        channels=1,
        classes=10,
        ipc=IPC,
        mean=tuple(digits.mean),
        std=tuple(digits.std),
        flip=digits.flip,
        epochs=7,
        teacher=folder / "teacher.safetensors",
        cores=0,
    )
    return SimpleNamespace(task=task, **found)


def test_rded_does_the_same_work(bench):
    found = bench.rded.train(bench.task)
    epochs, batch = bench.task.epochs, our_rded.batch_size(None, IPC, 10)
    assert found.steps == epochs * math.ceil(IPC * 10 / batch) == epochs * 2
    assert [epoch for epoch, _ in found.tests] == our_rded.test_epochs(epochs, "best_test")
    schedule = schedules.half_cosine(epochs)
    assert found.rates == pytest.approx([0.001 * schedule(epoch) for epoch in range(epochs)])
    for ipc in (1, 10, 50):
        assert bench.rded.batch_size(replace(bench.task, ipc=ipc)) == our_rded.batch_size(None, ipc, 10)
    for length in (30, 300):
        assert [e for e in range(length) if bench.rded.tested(e, length)] == our_rded.test_epochs(length, "best_test")


def test_minimax_does_the_same_work(bench):
    found = bench.minimax.train(bench.task)
    epochs = bench.task.epochs
    assert found.steps == epochs * 2  # batches of 64 and 36
    assert [epoch for epoch, _ in found.tests] == list(idc_recipe.test_epochs(epochs, "best_test", 4))
    schedule = schedules.idc_multi_step(epochs)
    assert found.rates == pytest.approx([0.01 * schedule(epoch) for epoch in range(epochs)])
    assert bench.minimax.epochs(32, 10, 10) == idc_recipe.SMALL_EPOCHS
    for ipc in (1, 10, 20, 50, 100, 200, 500, 1000):
        for classes in (10, 100):
            assert bench.minimax.epochs(224, ipc, classes) == idc_recipe.epochs(ipc, classes)


@pytest.mark.parametrize("augment", [False, True])
def test_dc_does_the_same_work(bench, augment):
    found = bench.dc.train(bench.task, augment=augment)
    run = bench.task.epochs + 1
    assert found.steps == run
    assert [epoch for epoch, _ in found.tests] == [run - 1]
    schedule = schedules.dc_step(bench.task.epochs)
    assert found.rates == pytest.approx([0.01 * schedule(epoch) for epoch in range(run)])
    options = our_dc.DcOptions()
    full = our_dc.epochs(options, "dsa" if augment else "plain")
    assert full == (bench.dc.DSA_EPOCHS if augment else bench.dc.EPOCHS)


def test_it_learns(bench):
    (_, accuracy), *more = bench.dc.train(replace(bench.task, epochs=12)).tests
    assert accuracy > 0.4 and not more  # chance is 0.1


def test_the_imagenet_chain_learns_from_pil_images(bench, tmp_path):
    # Above 64 pixels MinimaxDiffusion's own way applies: coloured squares, one place per class.
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 2)
    images = generator.integers(0, 60, (20, 72, 72, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label % 3] += np.uint8(15 * label)
    for split in ("train", "test"):
        bench.prepare.write_tree(tmp_path / split, images, labels)
    folders = {split: tmp_path / split for split in ("train", "test")}
    constants = {"mean": (0.2,) * 3, "std": (0.2,) * 3}
    task = replace(bench.task, **folders, **constants, size=72, channels=3, ipc=2, epochs=2)
    found = bench.minimax.train(task)
    assert found.steps == 2 and len(found.tests) == 2


def test_networks_have_the_same_layers_and_numbers(bench):
    for norm, ours in (("batch", "batch"), ("instance", "instance")):
        theirs = bench.common.ConvNet(bench.task, norm)
        network = convnet.build(in_channels=1, image_size=bench.task.size, num_classes=10, norm=ours)
        network.load_state_dict(theirs.state_dict())
        x = torch.randn(4, 1, bench.task.size, bench.task.size)
        assert torch.allclose(theirs(x), network(x), atol=1e-5)


def test_operators_change_images_as_they_should(bench):
    torch.manual_seed(0)
    x = torch.rand(64, 3, 32, 32) + 0.1
    assert ((bench.dsa.cutout(x) == 0).all(1).sum((1, 2)) <= 256).all() and (bench.dsa.cutout(x) == 0).any()
    flipped = bench.dsa.flip(x)
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(flipped, x, strict=True))
    moved = bench.dsa.crop(x)
    assert moved.shape == x.shape and torch.isin(moved[moved != 0], x).all()
    for operator in (bench.dsa.colour, bench.dsa.scale, bench.dsa.rotate):
        assert operator(x).shape == x.shape and not torch.equal(operator(x), x)


def test_finished_runs_are_not_repeated_and_make_a_table(bench, tmp_path, capsys, monkeypatch):
    out = tmp_path / "runs.jsonl"
    made = {"dataset": "digits", "ipc": 10, "size": 8, "channels": 1, "classes": 10, "forward_flops": 10**6}
    asked = []

    def child(request, work):
        if request["do"] == "prepare":
            (work / "prepared.json").write_text(json.dumps(made))
            return {}
        asked.append((request["protocol"], request["side"], request["seed"]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        seconds = 2.0 if request["side"] == "ours" else 7.0
        return {"seconds": seconds, "accuracy": 0.5, "tests": 1, "steps": 8, "precision": "fp32"}

    monkeypatch.setattr(bench.evaluators, "child", child)
    command = ["evaluators.py", "--protocol", "dc", "--repeats", "2", "--loop-seconds", "0", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(KeyboardInterrupt):
        bench.evaluators.main()
    out.write_text(out.read_text() + '{"do": "run", "prot')  # a line that an interruption cut short
    bench.evaluators.main()
    assert asked == [("dc", "ours", 0), ("dc", "released", 0), *[("dc", "ours", 1)] * 2, ("dc", "released", 1)]
    assert "| dc | 300 | 2.0 | 7.0 | **3.50** (3.50–3.50) |" in capsys.readouterr().out
