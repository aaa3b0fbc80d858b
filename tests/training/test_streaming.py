"""A test split larger than the memory it may take."""

from __future__ import annotations

import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from ddbench_plugins.training import students
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.predict import evaluate
from ddbench_plugins.training.streaming import StreamedImages
from registered import build_network

import ddbench
from ddbench.testing.toy import toy_dataset

tensors_of_test = students.test_tensors


class Drawn(ddbench.ImageSource):
    """Images that are drawn when they are asked for, as files are decoded, and counted."""

    channels = 3

    def __init__(self, count):
        self.count = count
        self.loads = np.zeros(count, int)
        self.lock = threading.Lock()

    def __len__(self):
        return self.count

    def load(self, index, size):
        with self.lock:
            self.loads[index] += 1
        return np.random.default_rng(index).integers(0, 256, (size, size, 3), np.uint8)


@pytest.fixture
def data(tmp_path):
    split = ddbench.Split(Drawn(700), np.arange(700) % 3, tuple(map(str, range(700))))
    return replace(toy_dataset(channels=3), image_size=32, test=split, fingerprint=str(tmp_path))


def test_streamed_numbers_are_those_in_memory(data, monkeypatch):
    network = build_network("convnet-2-bn", in_channels=3, image_size=32, num_classes=3)
    settings = {"transform": normalise(data.mean, data.std), "precision": "fp32"}
    images, labels = tensors_of_test(data, 32, 36)
    assert isinstance(images, torch.Tensor) and images.shape == (700, 3, 32, 32)
    inside = evaluate(network, images, labels, **settings)
    monkeypatch.setattr(students, "KEEP_BYTES", 1000)
    streamed, labels = tensors_of_test(data, 32, 36)
    assert isinstance(streamed, StreamedImages)
    assert torch.equal(torch.cat(list(streamed.split(64))), images)
    outside = evaluate(network, streamed, labels, **settings)
    assert outside.accuracy == inside.accuracy
    assert torch.equal(outside.correct, inside.correct)


def test_every_image_is_decoded_once_per_evaluation(data, monkeypatch):
    monkeypatch.setattr(students, "KEEP_BYTES", 1000)
    network = build_network("convnet-1-bn", in_channels=3, image_size=32, num_classes=3)
    for passes in (1, 2):
        images, labels = tensors_of_test(data, 32)
        evaluate(network, images, labels, batch=100)
        assert (data.test.images.loads == passes).all()


def test_what_fits_is_decoded_once_for_all(data):
    for _ in range(2):
        images, _ = tensors_of_test(data, 32)
    assert len(images) == 700
    assert (data.test.images.loads == 1).all()


def test_memory_is_bounded_by_two_batches(data, monkeypatch):
    monkeypatch.setattr(students, "KEEP_BYTES", 1000)
    batch = 20
    images, _ = tensors_of_test(data, 64)
    tracemalloc.start()
    try:
        for part in images.split(batch):
            assert len(part) == batch
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    one = batch * 64 * 64 * 3
    assert peak < 6 * one < images.nbytes / 4  # one batch in work, one coming, each decoded and turned around


def test_a_student_is_tested_on_streamed_images(data, ctx, monkeypatch):
    from ddbench_plugins.training import optimisers

    def score():
        mine = replace(ctx, _dataset=data, network="convnet-1-bn")
        images, labels = data.arrays("train", 32)
        test_images, test_labels = students.test_tensors(data, 32)
        return students.train_student(
            mine,
            mine.build_network(seed=1),
            images=torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
            labels=torch.tensor(labels),
            test_images=test_images,
            test_labels=test_labels,
            mean=data.mean,
            std=data.std,
            epochs=2,
            test_epochs=[0, 1],
            seed=1,
            augment=normalise(data.mean, data.std),
            batch_size=12,
            optimiser=optimisers.sgd(0.01),
        )

    inside = score()
    monkeypatch.setattr(students, "KEEP_BYTES", 1000)
    outside = score()
    assert outside.curve == inside.curve
    assert (outside.correct == inside.correct).all()
    assert (data.test.images.loads == 3).all()
