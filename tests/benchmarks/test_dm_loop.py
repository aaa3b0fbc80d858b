"""The released loop that distribution matching is timed against does the same work."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ddbench_plugins.matching.real_batches import RealImages
from ddbench_plugins.matching.synthetic import SyntheticImages
from ddbench_plugins.methods.dm.matching import DistributionMatching, Matching
from ddbench_plugins.networks import convnet

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return {name: importlib.import_module(name) for name in ("released.common", "released.dm_loop", "matching")}
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
    loss = DistributionMatching(images, real, lambda number: network, settings).step(0)
    assert loop.step(theirs, augment=False) == pytest.approx(loss, rel=1e-4)
    # As vectors: single pixels hang on which side of zero a ReLU falls, so on the machine's order of summing.
    moved = (loop.x.detach() - begun).norm()
    assert float((loop.x - images.images).detach().norm() / moved) < 5e-3


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
        for side in bench["matching"].SIDES:
            found = bench["matching"].measure(side, 1, 0.1)
            assert found["iterations"] >= 1
            assert found["rate"] > 0
