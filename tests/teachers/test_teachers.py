import json
from dataclasses import replace

import pytest
import torch
from ddbench_plugins.teachers import bundled, observers
from ddbench_plugins.teachers.recipes import GENERIC, RECIPES, TeacherRecipe, recipe_for
from ddbench_plugins.teachers.training import train_teacher
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.predict import evaluate
from ddbench_plugins.training.seeding import seeded
from registered import build_network
from safetensors.torch import load_file, save_file

from ddbench.errors import ModelError, TeacherError
from ddbench.testing.toy import toy_dataset

QUICK = TeacherRecipe(epochs=6, batch_size=16, optimiser="sgd", lr=0.05, weight_decay=5e-4, floor=0.9, crop_padding=1)


def toy_set(n, seed):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 80, (n, 1, 16, 16), generator=draws, dtype=torch.uint8)
    images[labels == 0, :, :8] += 120
    images[labels == 1, :, 8:] += 120
    return images, labels


def quick_teacher(recipe=QUICK):
    """Return a trained network, its accuracy on other images, and its losses."""
    with seeded(0):
        network = build_network("convnet-3-bn", in_channels=1, image_size=16, num_classes=2, width=8)
    images, labels = toy_set(48, 0)
    result = train_teacher(network, images=images, labels=labels, recipe=recipe, mean=[0.4], std=[0.3], seed=0)
    return network, evaluate(network, *toy_set(40, 1), transform=normalise([0.4], [0.3])).accuracy, result.losses


@pytest.mark.parametrize(
    "changes", [{}, {"optimiser": "adamw", "lr": 0.01}, {"crop_scale": 0.8, "flip": False}, {"label_smoothing": 0.1}]
)
def test_a_teacher_is_trained_and_left_in_evaluation_mode(changes):
    network, accuracy, losses = quick_teacher(TeacherRecipe(**{**QUICK.to_dict(), **changes}))
    assert accuracy >= 0.9 and not network.training and len(losses) == 6


def test_a_teacher_below_its_floor_is_refused(ctx, monkeypatch):
    hopeless = replace(QUICK, epochs=1, lr=1e-9)
    monkeypatch.setattr(observers, "recipe_for", lambda data, network: hopeless)
    ctx = replace(ctx, _dataset=toy_dataset())
    with pytest.raises(TeacherError, match="its recipe asks for at least 90%"):
        observers.get_teacher(ctx, "convnet-1-bn")
    assert observers.get_teacher(ctx, "convnet-1-bn", floor=False).accuracy < 0.9


def test_recipes_are_found_by_network_family_and_data_set():
    assert recipe_for("cifar10", "convnet-3-bn") is RECIPES["cifar10", ""]
    assert recipe_for("unheard-of", "convnet-3-bn") is GENERIC
    assert {dataset for dataset, _ in RECIPES} >= {"digits", "cifar10", "cifar100", "imagenette", "fashion-mnist"}
    assert recipe_for("cifar10", "convnet-3-bn").floor == 0.80
    assert recipe_for("digits", "convnet-3-bn").floor == 0.97
    assert recipe_for("imagenette", "convnet-4-bn").floor == 0.55


def test_a_bundled_teacher_survives_its_file(tmp_path):
    teacher, _, _ = quick_teacher()
    path = tmp_path / "toy_convnet-3-bn.safetensors"
    save_file({name: value.contiguous() for name, value in teacher.state_dict().items()}, path)
    images, labels = toy_set(40, 1)
    path.with_suffix(".json").write_text(json.dumps({"accuracy": 0.95, "sha256": bundled.sha256(path)}))
    found = bundled.find_bundled_teacher("toy", "convnet-3-bn", tmp_path)
    assert found is not None and found.accuracy == 0.95
    network = build_network("convnet-3-bn", in_channels=1, image_size=16, num_classes=2, width=8)
    found.check()
    network.load_state_dict(load_file(found.weights))
    assert evaluate(network, images, labels).accuracy == evaluate(teacher, images, labels).accuracy
    assert bundled.find_bundled_teacher("toy", "resnet-18", tmp_path) is None
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelError, match="not the file"):
        found.check()
