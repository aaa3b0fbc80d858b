"""Teachers as cached artifacts: trained once per data set and network, shared by evaluators and methods."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import ModelError, Score, TeacherError, derive_seed
from ddbench_plugins.training.recipes import TeacherRecipe, recipe_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench import Context, Dataset, Done, Step

WEIGHTS = "model.safetensors"
CORRECT = "correct.npy"
#: Mean and std that released code uses on other data sets too: RDED ImageNet's on all, SRe2L CIFAR-10's on CIFAR-100;
#: those of zeyuanyin/tiny-imagenet.
CONSTANTS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "tiny-imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}
#: Raise when training or measuring changes, so that old teachers are not reused.
VERSION = 1


@dataclass
class Observer:
    """A trained network with what is known of it; the weights are read when first needed.

    Attributes:
        name: network name.
        done: the finished step with the weights.
        mean, std: normalisation of its inputs.
    """

    ctx: Context
    name: str
    done: Done
    mean: Sequence[float]
    std: Sequence[float]
    _module: Any = None

    @property
    def accuracy(self) -> float:
        """Accuracy (fraction) on the whole test split."""
        return float(self.done.info["accuracy"])

    @property
    def digest(self) -> str:
        """Digest of the weights."""
        return str(self.done.info["weights"])

    def describe(self) -> dict[str, Any]:
        """Return what a protocol says of its teacher."""
        return {
            "network": self.name,
            "accuracy": round(self.accuracy, 4),
            "source": self.done.info["source"],
            "weights": self.digest[:16],
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def module(self) -> Any:
        """Return the network in evaluation mode on the run's device."""
        if self._module is None:
            from safetensors.torch import load_file

            self._module = self.ctx.build_network(self.name, seed=0)
            self._module.load_state_dict(load_file(self.done.dir / WEIGHTS))
            self._module.to(self.ctx.machine.device).eval().requires_grad_(False)
        return self._module

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the predicted labels int64 [n] of uint8 images [n, H, W, C] (resized to the network's side)."""
        return self._logits(images).argmax(1).numpy()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the inputs of the last linear layer, float32 [n, d], of uint8 images [n, H, W, C]."""
        import torch
        from torch import nn

        class Embedding(nn.Module):
            def __init__(self, network: nn.Module) -> None:
                super().__init__()
                self.network = network

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.network.embed(x)

        return self._logits(images, Embedding(self.module())).numpy()

    def score(self) -> Score:
        """Return the network's own result on the test split (method ``full``)."""
        correct = np.load(self.done.dir / CORRECT, allow_pickle=False)
        return Score(last=float(correct.mean()), correct=correct, metrics={"epochs": float(self.done.info["epochs"])})

    def _logits(self, images: np.ndarray, network: Any = None) -> Any:
        import torch

        from ddbench_plugins.training.augment import normalise
        from ddbench_plugins.training.predict import predict

        tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        size = self.ctx.dataset.image_size
        if tensor.shape[-1] != size:
            tensor = torch.nn.functional.interpolate(
                tensor.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
            )
            tensor = tensor.round_().clamp_(0, 255).to(torch.uint8)
        machine = self.ctx.machine
        return predict(
            network or self.module(),
            tensor,
            transform=normalise(self.mean, self.std),
            precision=machine.precision,
            device=machine.device,
        )


def get_teacher(
    ctx: Context,
    network: str,
    normalisation: str = "dataset",
    file: str = "",
    *,
    repeat: int = 0,
    floor: bool = True,
    shipped: bool = True,
) -> Observer:
    """Return a network trained on the whole training set by the data set's recipe, from the cache where it is there.

    Args:
        network: registered name.
        normalisation: name of the constants, see :func:`constants`.
        file: safetensors file with trained weights to use instead; a ``.json`` beside it may name ``class_ids``.
        repeat: which independently trained network; teachers are number 0.
        floor: refuse a network below the recipe's floor.
        shipped: take the weights that come with ddbench where there are any, instead of training.

    Raises:
        TeacherError: its accuracy is below the floor, or it was trained for another class order.
        ModelError: the file is missing or does not fit the network.
    """
    data = ctx.dataset
    mean, std = constants(data, normalisation)
    recipe = recipe_for(data.name, network)
    shipped = shipped and not repeat and normalisation == "dataset"
    source = _source(ctx, network, file, repeat, recipe, shipped)
    inputs = {
        "version": VERSION,
        "dataset": data.fingerprint,
        "image_size": data.image_size,
        "network": network,
        "mean": list(mean),
        "std": list(std),
        "source": source,
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        _build(ctx, step, network, mean, std, recipe, source, file)

    observer = Observer(ctx, network, ctx.step("teacher", inputs, build), mean, std)
    if floor and observer.accuracy < recipe.floor:
        raise TeacherError(
            f"The {network} teacher of {data.name} reaches {observer.accuracy:.1%} on the test split; its recipe asks"
            f" for at least {recipe.floor:.0%}.",
            hint="Soft labels of a weak or wrongly ordered teacher are misleading. Check the data, choose another"
            " network with -o eval.teacher=…, or give weights with -o eval.teacher_file=….",
        )
    return observer


def reference(ctx: Context, network: str, normalisation: str = "dataset") -> dict[str, Any]:
    """Return the protocol of method ``full``: the network trained on the whole training set by the teacher recipe."""
    mean, std = constants(ctx.dataset, normalisation)
    return {
        "network": network,
        "label_type": "hard",
        "recipe": recipe_for(ctx.dataset.name, network).to_dict(),
        "mean": list(mean),
        "std": list(std),
        "image_size": ctx.dataset.image_size,
        "selection": "last",
    }


def constants(dataset: Dataset, normalisation: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Normalisation constants by name: ``dataset`` for its own, or one of :data:`CONSTANTS`."""
    if normalisation == "dataset":
        return dataset.mean, dataset.std
    mean, std = CONSTANTS[normalisation]
    return mean[: dataset.channels], std[: dataset.channels]


def _source(ctx: Context, network: str, file: str, repeat: int, recipe: TeacherRecipe, shipped: bool) -> dict[str, Any]:
    """Say where the weights come from: a file, the ones that ship with ddbench, or training by the recipe."""
    from ddbench_plugins.training.bundled import find_bundled_teacher, sha256

    if file:
        path = Path(file).expanduser()
        if not path.is_file():
            raise ModelError(f"Teacher file {file} does not exist.", hint="Give a .safetensors file of its state dict.")
        _check_class_order(ctx.dataset, path)
        return {"file": path.name, "sha256": sha256(path)}
    bundled = find_bundled_teacher(ctx.dataset.name, network) if shipped else None
    # Of the very same split: on another one it would have seen test images.
    if bundled and bundled.record["fingerprint"] == ctx.dataset.fingerprint:
        return {"bundled": bundled.weights.name, "sha256": bundled.record["sha256"]}
    return {"recipe": recipe.to_dict(), "seed": derive_seed(0, "teacher", repeat)}


def _check_class_order(dataset: Dataset, path: Path) -> None:
    beside = path.with_suffix(".json")
    if not beside.exists():
        return
    about = json.loads(beside.read_text("utf-8"))
    for key, wanted in (("class_ids", dataset.class_ids), ("class_names", dataset.class_names)):
        if key in about and tuple(about[key]) != wanted:
            raise TeacherError(
                f"Teacher {path.name} was trained for another class order: its {key} begin with"
                f" {', '.join(about[key][:3])}, those of {dataset.name} with {', '.join(wanted[:3])}.",
                hint="Soft labels would be silently wrong. Use a teacher of this data set.",
            )


def _build(
    ctx: Context,
    step: Step,
    network: str,
    mean: Sequence[float],
    std: Sequence[float],
    recipe: TeacherRecipe,
    source: dict[str, Any],
    file: str,
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from ddbench_plugins.training.augment import normalise
    from ddbench_plugins.training.bundled import find_bundled_teacher, sha256
    from ddbench_plugins.training.predict import evaluate
    from ddbench_plugins.training.students import test_tensors
    from ddbench_plugins.training.teachers import train_teacher

    data, machine = ctx.dataset, ctx.machine
    module = ctx.build_network(network, seed=source.get("seed", 0))
    epochs = 0
    test_images, test_labels = test_tensors(data, data.image_size)
    if file or "bundled" in source:
        bundled = find_bundled_teacher(data.name, network)
        path = Path(file).expanduser() if file else bundled.weights  # type: ignore[union-attr]
        try:
            module.load_state_dict(load_file(path))
        except (RuntimeError, OSError, ValueError) as error:
            raise ModelError(f"{path.name} does not fit {network}: {error}") from error
    else:
        images, labels = data.arrays("train")
        with ctx.progress(f"teacher {network}", recipe.epochs) as advance:
            train_teacher(
                module,
                images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
                labels=torch.from_numpy(np.asarray(labels)),
                recipe=recipe if data.flip else recipe.without_flip(),
                mean=mean,
                std=std,
                seed=source["seed"],
                precision=machine.precision,
                device=machine.device,
                checkpoint=step,
                checkpoint_seconds=ctx.checkpoint_seconds,
                progress=lambda done, total, figures: advance(done, total, f"loss {figures['loss']:.3f}"),
            )
        epochs = recipe.epochs
    module.eval()
    found = evaluate(
        module,
        test_images,
        test_labels,
        transform=normalise(mean, std),
        precision=machine.precision,
        device=machine.device,
    )
    save_file({name: value.contiguous().cpu() for name, value in module.state_dict().items()}, step.dir / WEIGHTS)
    np.save(step.dir / CORRECT, found.correct.numpy())
    step.info.update(accuracy=found.accuracy, weights=sha256(step.dir / WEIGHTS), source=source, epochs=epochs)
