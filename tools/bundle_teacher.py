"""Train a teacher by its recipe and put it beside the code, in half precision, with a record of what it is.

    python tools/bundle_teacher.py cifar10 convnet-3-bn

The accuracy in the record is measured once, on the whole test split, after rounding to half precision.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ddbench_plugins.teachers.bundled import ASSETS, sha256
from ddbench_plugins.teachers.observers import get_teacher
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.predict import evaluate
from ddbench_plugins.training.students import test_tensors
from safetensors.torch import load_file, save_file

from ddbench import api
from ddbench.experiment import setup
from ddbench.runtime import environment
from ddbench.runtime.progress import reporter


def main() -> None:
    """Train (or reuse) the teacher, round it, measure it, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("network")
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()

    said = reporter()
    ctx = replace(setup.context(reporter=said), _dataset=api.load_dataset(arguments.dataset, reporter=said))
    teacher = get_teacher(ctx, arguments.network, shipped=False)
    network = teacher.module()
    weights = arguments.out / f"{arguments.dataset}_{arguments.network}.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_file({name: value.contiguous().cpu() for name, value in state.items()}, weights)
    network.load_state_dict(load_file(weights))
    images, labels = test_tensors(ctx.dataset, ctx.dataset.image_size)
    stored = evaluate(network, images, labels, transform=normalise(teacher.mean, teacher.std), precision="fp32")
    record = {
        "dataset": arguments.dataset,
        "fingerprint": ctx.dataset.fingerprint,
        "network": arguments.network,
        "accuracy": stored.accuracy,
        "accuracy_before_rounding": teacher.accuracy,
        "test_images": len(labels),
        "class_ids": ctx.dataset.class_ids,
        "class_names": ctx.dataset.class_names,
        "mean": teacher.mean,
        "std": teacher.std,
        **teacher.done.info["source"],
        "seconds": round(teacher.done.seconds),
        "numerics": ctx.machine.numerics(),
        "versions": environment.describe()["packages"],
        "sha256": sha256(weights),
    }
    weights.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    said.log(f"{weights.name}: {stored.accuracy:.2%} on {len(labels):,} test images, {weights.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
