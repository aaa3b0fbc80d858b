"""What evaluators share: tensors of a distilled set, and the score of one student."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ddbench_plugins.training import augment, students
from ddbench_plugins.training.optimisers import sgd
from ddbench_plugins.training.predict import predict

import ddbench
from ddbench.testing.toy import toy_dataset

# pytest would collect it by its name.
tensors_of_test = students.test_tensors
DATA = toy_dataset(channels=3)


def _set(side: int, space: str = "rgb_uint8") -> ddbench.DistilledSet:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    if space != "rgb_uint8":
        pixels = ((pixels / 255 - DATA.mean) / DATA.std).astype(np.float32)
    return ddbench.DistilledSet(pixels, np.arange(3), space=space)


def test_images_of_the_size_are_taken_as_they_are():
    made = _set(8)
    images, labels = students.training_tensors(made, DATA, 8)
    assert images.dtype == torch.uint8 and labels.tolist() == [0, 1, 2]
    assert np.array_equal(images.numpy().transpose(0, 2, 3, 1), made.images)


def test_images_of_another_size_are_resized_and_stay_bytes():
    made = _set(12)
    images, _ = students.training_tensors(made, DATA, 8)
    assert images.dtype == torch.uint8 and images.shape == (3, 3, 8, 8)
    # Side 12 to 8: each pixel is a triangle of width 3 over its neighbours, bilinear with antialiasing.
    centres = (np.arange(8) + 0.5) * 1.5 - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(12) - centres[:, None]) / 1.5)
    weights /= weights.sum(1, keepdims=True)
    expected = np.einsum("yi,xj,nijc->ncyx", weights, weights, made.images.astype(float))
    assert np.abs(images.numpy() - expected).max() <= 0.5 + 1e-3


def test_normalised_pixels_come_back_to_the_unit_scale():
    images, _ = students.training_tensors(_set(8, "normalized"), DATA, 8)
    torch.testing.assert_close(images, torch.from_numpy(_set(8).images.transpose(0, 3, 1, 2)) / 255, rtol=0, atol=1e-6)
    smaller, _ = students.training_tensors(_set(12, "normalized"), DATA, 8)
    assert smaller.is_floating_point() and smaller.max() < 1


def test_whitened_pixels_are_refused():
    with pytest.raises(ddbench.DataError, match="whitened"):
        students.training_tensors(_set(8, "zca"), DATA, 8)
    whitening = type("Whitening", (), {"whiten": lambda self, images: np.float32(images) - 1})()  # any will do
    white = students.training_tensors(_set(8), DATA, 8, whitening)[0]
    assert white.dtype == torch.float32 and torch.equal(white + 1, students.training_tensors(_set(8), DATA, 8)[0])


def test_the_test_split_is_read_once_per_size(monkeypatch):
    images, labels = tensors_of_test(DATA, 8)
    assert np.array_equal(images.numpy().transpose(0, 2, 3, 1), DATA.arrays("test")[0])
    assert labels.tolist() == DATA.test.labels.tolist()
    assert tensors_of_test(DATA, 8)[0] is images
    cropped, _ = tensors_of_test(DATA, 8, 12)
    assert cropped.shape == images.shape and not torch.equal(cropped, images)
    monkeypatch.setattr(students, "KEEP_BYTES", images.numel() - 1)
    assert isinstance(tensors_of_test(DATA, 8)[0], students.StreamedImages)
    monkeypatch.setattr(students, "KEEP_BYTES", images.numel())
    assert isinstance(tensors_of_test(DATA, 8)[0], torch.Tensor)


def _train(ctx, test_epochs, epochs=3):
    ctx = replace(ctx, _dataset=DATA, network="mlp")
    network = ctx.build_network(seed=0)
    images, labels = (torch.from_numpy(array) for array in DATA.arrays("train"))
    test_images, test_labels = tensors_of_test(DATA, 8)
    score = students.train_student(
        ctx,
        network,
        images=images.permute(0, 3, 1, 2),
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        mean=DATA.mean,
        std=DATA.std,
        epochs=epochs,
        test_epochs=test_epochs,
        seed=3,
        augment=augment.normalise(DATA.mean, DATA.std),
        batch_size=12,
        optimiser=sgd(0.02),
    )
    transform = augment.normalise(DATA.mean, DATA.std)
    answers = predict(network, test_images, transform=transform, precision="fp32").argmax(1)
    return score, (answers == test_labels).numpy()


def test_a_score_is_of_the_last_network_and_its_best_test(ctx):
    score, right = _train(ctx, [0, 1, 2])
    assert np.array_equal(score.correct, right) and score.last == pytest.approx(right.mean())
    assert [epoch for epoch, _ in score.curve] == [1, 2, 3] and score.curve[-1][1] == pytest.approx(score.last)
    assert score.best == max(accuracy for _, accuracy in score.curve)
    assert score.metrics["final_loss"] > 0
    two, _ = _train(ctx, [0, 2])
    assert two.best == max(accuracy for _, accuracy in two.curve) and len(two.curve) == 2


def test_one_test_has_no_best(ctx):
    score, right = _train(ctx, [2])
    assert score.best is None and score.curve == [(3, pytest.approx(right.mean()))]
