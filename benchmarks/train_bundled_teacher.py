"""Train the CIFAR-10 teacher that ddbench ships, and write its weights and record.

The recipe was chosen on 5,000 held-out training images; the test set is used once, for the recorded accuracy.

    python benchmarks/train_bundled_teacher.py cifar10_train.npz cifar10_test.npz --out FOLDER

The .npz files hold ``images`` uint8 [N, 32, 32, 3], ``labels`` and ``class_names``.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from ddbench_plugins.networks.catalog import build_network
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.bundled import ASSETS, save_half, sha256
from ddbench_plugins.training.predict import evaluate
from ddbench_plugins.training.recipes import recipe_for
from ddbench_plugins.training.seeding import seeded
from ddbench_plugins.training.teachers import train_teacher

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
NETWORK = "convnet-3-bn"


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Images [N, 3, 32, 32] uint8, labels [N], class names."""
    with np.load(path, allow_pickle=False) as data:
        images = torch.from_numpy(data["images"]).permute(0, 3, 1, 2).contiguous()
        return images, torch.from_numpy(data["labels"]).long(), data["class_names"].tolist()


def main() -> None:
    """Train, round to half precision, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    images, labels, names = read(arguments.train)
    test_images, test_labels, _ = read(arguments.test)
    recipe = recipe_for("cifar10", NETWORK)
    with seeded(arguments.seed):
        network = build_network(NETWORK, in_channels=3, image_size=32, num_classes=10)
    teacher = train_teacher(
        network,
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        recipe=recipe,
        mean=MEAN,
        std=STD,
        seed=arguments.seed,
        progress=lambda done, total, figures: print(done, total, figures, flush=True),
    )
    weights = arguments.out / f"cifar10_{NETWORK}.safetensors"
    save_half(network, weights)
    stored = evaluate(network, test_images, test_labels, transform=normalise(MEAN, STD), precision="fp32")
    record = {
        "dataset": "cifar10",
        "network": NETWORK,
        "accuracy": stored.accuracy,
        "test_images": len(test_labels),
        "class_names": names,
        "mean": MEAN,
        "std": STD,
        "recipe": recipe.to_dict(),
        "seed": arguments.seed,
        "training_seconds": round(teacher.training.seconds),
        "precision": teacher.training.precision,
        "sha256": sha256(weights),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    weights.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"accuracy {stored.accuracy:.4f} stored, {teacher.evaluation.accuracy:.4f} before rounding")


if __name__ == "__main__":
    main()
