"""The released loops that distribution and trajectory matching are timed against do the same work."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ddbench_plugins.matching.images import RealImages, SyntheticImages
from ddbench_plugins.methods.dm.matching import DistributionMatching, Matching
from ddbench_plugins.methods.mtt.matching import ImagesWithRate, TrajectoryMatching, Window
from ddbench_plugins.methods.mtt.matching import Matching as Segments
from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat
from ddbench_plugins.networks import convnet

MODULES = ("released.common", "released.dm_loop", "released.mtt_loop", "matching")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_one_iteration_of_both_is_the_same(bench, digits):
    real = RealImages(digits)
    labels = digits.train.labels
    members = [np.flatnonzero(labels == label) for label in range(10)]
    task = bench["released.common"].Task(
        Path(), Path(), 16, 1, 10, 2, tuple(digits.mean), tuple(digits.std), flip=False, epochs=0
    )
    everything = len(labels)  # a batch of all images, so that what is drawn does not matter
    loop = bench["released.dm_loop"].Loop(task, real.at(torch.arange(everything)).contiguous(), members, everything)
    images = SyntheticImages(loop.x.detach(), 2, 1.0)
    torch.manual_seed(0)
    network = convnet.build(in_channels=1, image_size=16, num_classes=10)
    theirs = bench["released.common"].ConvNet(task, "instance")
    theirs.load_state_dict(network.state_dict())
    settings = Matching(batch_real=everything, strategy=(), bn_joint=True, precision="fp32", seed=0)
    begun = loop.x.detach().clone()
    loss = float(DistributionMatching(images, real, lambda number: network, settings).step(0))
    assert loop.step(theirs, augment=False) == pytest.approx(loss, rel=1e-4)
    # As vectors: single pixels hang on which side of zero a ReLU falls, so on the machine's order of summing.
    moved = (loop.x.detach() - begun).norm()
    assert float((loop.x - images.images).detach().norm() / moved) < 5e-3


def test_one_iteration_of_trajectory_matching_is_the_same(bench):
    task = bench["released.common"].Task(Path(), Path(), 16, 3, 3, 2, (0,) * 3, (1,) * 3, flip=True, epochs=0)
    torch.manual_seed(0)
    theirs = bench["released.common"].ConvNet(task, "instance", width=16)
    network = convnet.build(in_channels=3, image_size=16, num_classes=3, width=16)
    start = flat(theirs)
    target = start + 0.01 * torch.randn(len(start))

    class Experts:
        def __len__(self):
            return 1

        def at(self, expert, epoch):
            return target if epoch else start

    loop = bench["released.mtt_loop"].Loop(task, theirs, torch.randn(6, 3, 16, 16), 4, (10.0, 1e-3, 0.01))
    begun = loop.x.detach().clone()
    images = ImagesWithRate(begun, 2, 10.0, rate=0.01, lr_rate=1e-3, positive=True, mean=(0,) * 3, std=(1,) * 3)
    settings = Segments(4, expert_epochs=1, window=Window(0, 1, 1, 0), batch_syn=6, strategy=(), seed=0)
    loss = float(TrajectoryMatching(images, Experts(), FlatNetwork(network), settings).step(0))
    assert loop.step(start, target, augment=False) == pytest.approx(loss, rel=1e-4)
    moved = (loop.x.detach() - begun).norm()
    assert float((loop.x - images.images).detach().norm() / moved) < 5e-3
    assert loop.rate.item() == pytest.approx(images.rate.item(), rel=1e-4)
    assert images.rate.item() != pytest.approx(0.01, abs=1e-9)


def test_siamese_draws_are_the_first_images(bench):
    dsa = sys.modules["released.dsa"]
    x = torch.randn(1, 3, 16, 16).expand(4, 3, 16, 16)
    for operator in (dsa.colour, dsa.flip, dsa.crop, dsa.cutout, dsa.scale, dsa.rotate):
        out = operator(x, True)
        torch.testing.assert_close(out, out[:1].expand_as(out))


def test_both_sides_count_iterations(bench, monkeypatch):
    monkeypatch.setattr(bench["matching"], "BATCH", 4)
    monkeypatch.setattr(bench["matching"], "PER_CLASS", 8)
    with monkeypatch.context() as path:
        path.syspath_prepend(str(BENCHMARKS))
        monkeypatch.setattr(bench["matching"], "SYN_STEPS", 2)
        monkeypatch.setattr(bench["matching"], "SIDE", 16)
        for side, method in itertools.product(bench["matching"].SIDES, bench["matching"].METHODS):
            found = bench["matching"].measure(side, 1, 0.1, method)
            assert found["iterations"] >= 1
            assert found["rate"] > 0
