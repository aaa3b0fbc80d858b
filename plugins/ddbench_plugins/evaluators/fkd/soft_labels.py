"""Soft labels of a teacher on augmented batches, stored beforehand and replayed (FKD).

SRe2L and D4M relabel a distilled set once: for every epoch and batch they keep the augmentation and the teacher's
logits, and every student replays both (SRe2L relabel/utils_fkd.py). A stored folder holds ``soft_labels.json`` and
``epochs-<first>.safetensors`` shards; docs/protocols/fkd.md says how to read them without ddbench.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddbench import DataError, step, write_atomic
from ddbench_plugins.evaluators.fkd.labelling import Plan, compress, label_view, restore
from ddbench_plugins.evaluators.fkd.views import View, ViewRecipe
from ddbench_plugins.training.steps import Batch, Batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from ddbench import Context, Step
    from ddbench_plugins.training.runtime import Precision

ABOUT = "soft_labels.json"
FORMAT = 1
#: Augmented images per shard, about: what a kill can cost.
SHARD_VIEWS = 10_000


# Building -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labeller:
    """Who labels.

    Attributes:
        about: plain data that determines the teacher and its mode.
        module: gives the teacher when it is needed, in the mode it is to label in.
    """

    about: dict[str, Any]
    module: Callable[[], nn.Module] = field(compare=False)


@step()
def soft_labels(ctx: Context, out: Step, images: Tensor, plan: Plan, labeller: Labeller) -> None:
    """Label a distilled set ``[N, C, S, S]``; all networks and repeats share the labels."""
    about = {"class_ids": list(ctx.dataset.class_ids), "teacher": labeller.about}
    with ctx.progress("soft labels", plan.epochs) as advance:
        write(out.dir, images, labeller.module(), plan, about, ctx.machine.precision, advance)
    out.costs["bytes_labels"] = sum(path.stat().st_size for path in files_of(out.dir))


def shard_epochs(count: int) -> int:
    """Epochs per shard for a set of ``count`` images."""
    return max(1, SHARD_VIEWS // count)


def write(
    folder: Path,
    images: Tensor,
    teacher: nn.Module,
    plan: Plan,
    about: dict[str, Any],
    precision: Precision = "auto",
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write the shards of a plan that are not there yet, and what they are.

    ``about`` (plain data, ``class_ids`` in it) goes into the description; ``progress`` gets the number of epochs done.
    """
    from safetensors.numpy import save

    block = shard_epochs(len(images))
    for first in range(0, plan.epochs, block):
        path = folder / shard_name(first)
        numbers = range(first, min(first + block, plan.epochs))
        if not path.exists():
            epochs = []
            for epoch in numbers:
                epochs.append(_epoch_arrays(images, teacher, plan, epoch, precision))
                progress(epoch)
            write_atomic(path, save({name: np.stack([e[name] for e in epochs]) for name in epochs[0]}))
        progress(numbers.stop)
    content = {
        "format": FORMAT,
        "images": len(images),
        "side": images.shape[-1],
        "shard_epochs": block,
        **about,
        **plan.describe(),
    }
    write_atomic(folder / ABOUT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def files_of(folder: Path) -> list[Path]:
    """Return the files of stored labels."""
    return [folder / ABOUT, *sorted(folder.glob("epochs-*.safetensors"))]


def shard_name(first: int) -> str:
    """File of the shard that begins with a 0-based epoch."""
    return f"epochs-{first:05d}.safetensors"


def _epoch_arrays(
    images: Tensor, teacher: nn.Module, plan: Plan, epoch: int, precision: Precision
) -> dict[str, np.ndarray]:
    """The tensors of one epoch: rows in the order of visit (``[N, …]``), and one row per batch for mixing."""
    per_image: list[dict[str, Tensor]] = []
    per_batch: dict[str, list[Any]] = {"mix_ratio": [], "mix_box": []}
    for view in plan.views(images, epoch):
        logits = label_view(images, teacher, plan, view, precision)[1]
        rows = {"image": view.indices.int()}
        for name, value, dtype in (
            ("crop", view.crops, torch.int16),
            ("flip", view.flips, torch.bool),
            ("mix_partner", view.partners, torch.int32),
        ):
            if value is not None:
                rows[name] = value.to(dtype)
        if plan.top_k:
            values, classes, rest = compress(logits, plan.top_k, plan.temperature)
            rows |= {"top_logits": _half(values), "top_classes": classes, "rest_logit": _half(rest)}
        else:
            rows["logits"] = _half(logits)
        per_image.append(rows)
        per_batch["mix_ratio"].append(view.ratio)
        per_batch["mix_box"].append(view.box)
    arrays = {name: torch.cat([rows[name] for rows in per_image]).cpu().numpy() for name in per_image[0]}
    if plan.top_k:
        arrays["top_classes"] = arrays["top_classes"].astype(np.uint16)
    for name, dtype in (("mix_ratio", np.float64), ("mix_box", np.int16)):
        if per_batch[name][0] is not None:
            arrays[name] = torch.stack(per_batch[name]).numpy().astype(dtype)
    return arrays


def _half(values: Tensor) -> Tensor:
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half()


# Reading ------------------------------------------------------------------------------------------------------------


class SoftLabels:
    """Stored labels; shards are memory-mapped, and only the batch asked for is read.

    Raises:
        DataError: the folder holds no soft labels of this format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.about: dict[str, Any] = json.loads((folder / ABOUT).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{folder.name} holds no readable {ABOUT}: {error}") from error
        if self.about.get("format") != FORMAT:
            raise DataError(
                f"The soft labels in {folder.name} have format {self.about.get('format')!r}; this ddbench reads"
                f" {FORMAT}."
            )

    def epoch(self, number: int) -> Iterator[tuple[View, Tensor]]:
        """Yield (view, float32 logits ``[B, K]``) of every batch of a 0-based epoch.

        Raises:
            IndexError: that epoch was not stored.
        """
        from safetensors import safe_open

        if not 0 <= number < self.about["epochs"]:
            raise IndexError(f"epoch {number} of {self.about['epochs']} stored ones")
        row = number % self.about["shard_epochs"]
        size, count, classes = self.about["batch_size"], self.about["images"], len(self.about["class_ids"])
        with safe_open(self.folder / shard_name(number - row), framework="numpy") as shard:
            slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 (no mapping)

            def read(name: str, start: int, stop: int) -> Tensor | None:
                if name not in slices:
                    return None
                stored = slices[name][row : row + 1, start:stop][0]
                return torch.from_numpy(stored.astype(np.int64) if stored.dtype.kind in "iu" else stored)

            for batch, start in enumerate(range(0, count, size)):
                stop = min(start + size, count)
                ratio, box = (read(name, batch, batch + 1) for name in ("mix_ratio", "mix_box"))
                indices, logits = read("image", start, stop), read("logits", start, stop)
                assert indices is not None
                if logits is None:
                    parts = [read(name, start, stop) for name in ("top_logits", "top_classes", "rest_logit")]
                    logits = restore(parts[0].float(), parts[1], parts[2].float(), classes)  # type: ignore[union-attr]
                view = View(
                    indices,
                    read("crop", start, stop),
                    read("flip", start, stop),
                    read("mix_partner", start, stop),
                    None if ratio is None else ratio[0],
                    None if box is None else box[0],
                )
                yield view, logits.float()

    def table(self) -> Tensor:
        """Return the float32 logits ``[N, K]`` of the first epoch, in the order of the images."""
        views = list(self.epoch(0))
        order = torch.cat([view.indices for view, _ in views]).argsort()
        return torch.cat([logits for _, logits in views])[order]

    def batches(self, images: Tensor, recipe: ViewRecipe) -> Batches:
        """Batches for :func:`ddbench_plugins.training.loop.train` that replay what was stored of ``images``."""

        def make(view: View, logits: Tensor) -> Batch:
            return Batch(recipe.render(images, view), logits, view.indices)

        return Batches(self.epoch, make)
