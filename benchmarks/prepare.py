"""What both sides of a comparison start from: one distilled set, the test images as files, RDED's teacher."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import ddbench
from ddbench.experiment import setup

TEACHER = "convnet-3-bn"
DONE = "prepared.json"


@dataclass(frozen=True)
class Prepared:
    """A prepared folder; paths are relative to it, so that it can be moved.

    Attributes:
        dataset, ipc, size, channels, classes, mean, std, flip, factor: of the data set.
        distilled: folder of the distilled set as ddbench reads it.
        teacher: weights (safetensors) and accuracy of RDED's teacher, or empty.
        forward_flops: floating-point operations of one image in one forward pass of the network.
    """

    dataset: str
    ipc: int
    size: int
    channels: int
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    factor: int
    distilled: str
    teacher: str
    teacher_accuracy: float
    forward_flops: int


def load(work: Path) -> Prepared:
    """Read what :func:`prepare` left in a folder."""
    values = json.loads((work / DONE).read_text("utf-8"))
    return Prepared(**(values | {"mean": tuple(values["mean"]), "std": tuple(values["std"])}))


def prepare(work: Path, dataset: str, ipc: int, teacher: bool) -> Prepared:
    """Make the folder, or find it made. ``DDBENCH_HOME`` must be the private one of the benchmark.

    Raises:
        ValueError: the folder was made for another data set or IPC.
    """
    if (work / DONE).exists():
        found = load(work)
        if (found.dataset, found.ipc) != (dataset, ipc):
            raise ValueError(f"{work} was prepared for {found.dataset} at IPC {found.ipc}; choose another --out")
        if found.teacher or not teacher:
            return found
    made = make(work, dataset, ipc, teacher)
    (work / DONE).write_text(json.dumps(asdict(made), indent=2), "utf-8")
    return made


def make(work: Path, dataset: str, ipc: int, teacher: bool) -> Prepared:
    """Distil (method ``random``), write images of both splits as PNG files, train or load the teacher."""
    import torch
    from ddbench_plugins.networks import convnet
    from ddbench_plugins.teachers.observers import WEIGHTS, get_teacher
    from ddbench_plugins.training.runtime import forward_flops

    from ddbench.experiment import pipeline
    from ddbench.runtime.progress import Reporter

    for stale in ("sets", "train", "test"):
        shutil.rmtree(work / stale, ignore_errors=True)
    ctx = setup.context(reporter=Reporter())
    ctx = replace(ctx, _dataset=pipeline.load_dataset(ctx, dataset))
    data = ctx.dataset
    (distilled,) = ddbench.distill("random", dataset=dataset, ipc=ipc, out=work / "sets")
    (folder,) = (work / "sets").iterdir()
    write_tree(work / "train", distilled.distilled.images, distilled.distilled.labels)
    side = max(data.image_size, data.image_size // 7 * 8)
    write_tree(work / "test", data.test.images.batch(range(len(data.test)), side), data.test.labels)
    weights, accuracy = "", 0.0
    if teacher:
        observer = get_teacher(ctx, TEACHER)
        shutil.copyfile(observer.done.dir / WEIGHTS, work / "teacher.safetensors")
        weights, accuracy = "teacher.safetensors", observer.accuracy
    network = convnet.build(in_channels=data.channels, image_size=data.image_size, num_classes=data.num_classes)
    return Prepared(
        dataset=dataset,
        ipc=ipc,
        size=data.image_size,
        channels=data.channels,
        classes=data.num_classes,
        mean=tuple(data.mean),
        std=tuple(data.std),
        flip=data.flip,
        factor=2 if dataset.startswith("image") else 1,  # RDED's scripts
        distilled=str(folder.relative_to(work)),
        teacher=weights,
        teacher_accuracy=accuracy,
        forward_flops=forward_flops(network, torch.zeros(1, data.channels, data.image_size, data.image_size)),
    )


def write_tree(root: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write uint8 images [n, H, W, C] as ``root/<class, five digits>/<number>.png``."""
    from PIL import Image

    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / f"{label:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / f"{number:05d}.png")
