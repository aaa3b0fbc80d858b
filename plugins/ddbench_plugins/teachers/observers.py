"""Teachers as cached artifacts: trained once per data set and network, shared by evaluators and methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import ModelError, Score, TeacherError, derive_seed, digest, step
from ddbench.files import check_file
from ddbench_plugins.teachers.files import read_about
from ddbench_plugins.teachers.hubs import published, weights_file
from ddbench_plugins.teachers.pretrained import load, network_of
from ddbench_plugins.teachers.recipes import TeacherRecipe, recipe_for
from ddbench_plugins.training.normalisation import constants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddbench import Context, Dataset, Done, Step, StepCall
    from ddbench_plugins.teachers.hubs import Published

WEIGHTS = "model.safetensors"
CORRECT = "correct.npy"
Constants = tuple[Sequence[float], Sequence[float]]


@dataclass
class Observer:
    """A trained network with what is known of it; the weights are read when first needed.

    Attributes:
        name: what the teacher is called: a network, or published weights.
        done: the finished step with the weights.
        mean, std: normalisation of the images that it is given.
        own: mean and std that the weights were trained with; :meth:`module` converts where they differ.
    """

    ctx: Context = field(compare=False)
    name: str
    done: Done
    mean: Sequence[float]
    std: Sequence[float]
    own: tuple[Sequence[float], Sequence[float]]
    _module: Any = field(default=None, compare=False)

    @property
    def accuracy(self) -> float:
        """Accuracy (fraction) on the whole test split."""
        return float(self.done.info["accuracy"])

    @property
    def digest(self) -> str:
        """Digest of the weights, and of the normalisation where they have one of their own."""
        weights = str(self.done.info["weights"])
        return weights if self._as_given else digest([weights, *map(list, self.own)])

    def describe(self) -> dict[str, Any]:
        """Return what a protocol says of its teacher."""
        outputs = self.done.info.get("outputs", self.ctx.dataset.num_classes)
        return {
            "network": self.name,
            "accuracy": round(self.accuracy, 4),
            "source": self.done.info["source"],
            "weights": str(self.done.info["weights"])[:16],
            "mean": list(self.own[0]),
            "std": list(self.own[1]),
            **({"outputs": outputs} if outputs != self.ctx.dataset.num_classes else {}),
        }

    def module(self) -> Any:
        """Return the network, for images normalised by ``mean`` and ``std``, in evaluation mode on the run's device."""
        if self._module is None:
            from safetensors.torch import load_file

            from ddbench_plugins.teachers.renormalise import Renormalised

            module = self.ctx.build_network(network_of(self.name), seed=0)
            module.load_state_dict(load_file(self.done.dir / WEIGHTS))
            if not self._as_given:
                module = Renormalised(module, self.mean, self.std, *self.own)
            self._module = module.to(self.ctx.machine.device).eval().requires_grad_(False)
        return self._module

    @property
    def _as_given(self) -> bool:
        return (tuple(self.mean), tuple(self.std)) == tuple(map(tuple, self.own))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the predicted labels int64 [n] of uint8 images [n, H, W, C] (resized to the network's side)."""
        labels: np.ndarray = self._logits(images).argmax(1).numpy()
        return labels

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes, float32 [n, K], of uint8 images [n, H, W, C]."""
        probabilities: np.ndarray = self._logits(images).softmax(1).numpy()
        return probabilities

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

        features: np.ndarray = self._logits(images, Embedding(self.module())).numpy()
        return features

    def score(self) -> Score:
        """Return the network's own result on the test split (method ``full``)."""
        correct = np.load(self.done.dir / CORRECT, allow_pickle=False)
        return Score(last=float(correct.mean()), correct=correct, metrics={"epochs": float(self.done.info["epochs"])})

    def _logits(self, images: np.ndarray, network: Any = None) -> Any:
        import torch

        from ddbench_plugins.training.augment import normalise
        from ddbench_plugins.training.pixels import as_bytes
        from ddbench_plugins.training.predict import predict

        tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        size = self.ctx.dataset.image_size
        if tensor.shape[-1] != size:
            tensor = torch.nn.functional.interpolate(
                tensor.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
            )
            tensor = as_bytes(tensor.round_())
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
    teacher_normalisation: str = "auto",
    repeat: int = 0,
    floor: bool = True,
    shipped: bool = True,
) -> Observer:
    """Return a trained network, from the cache where it is there.

    Args:
        network: a registered name, trained on the whole training set by the data set's recipe; or published weights
            (``timm:resnet18.tv_in1k``), whose outputs are matched to the data set's classes by id.
        normalisation: constants of the images that the caller gives it.
        file: file with the weights to use instead; a ``.json`` beside it may name ``class_ids``, ``mean`` and ``std``.
        teacher_normalisation: constants of the network itself; ``auto``: those that its weights are published or
            described with, else ``normalisation``.
        repeat: which independently trained network; teachers are number 0.
        floor: refuse a network below the recipe's floor.
        shipped: take the weights that come with ddbench where there are any, instead of training.

    Raises:
        TeacherError: its accuracy is below the floor, or it was trained for other classes.
        ModelError: weights are missing, cannot be fetched, or do not fit the network or the image size.
    """
    mean, std = constants(ctx.dataset, normalisation)
    recipe = recipe_for(ctx.dataset.name, network)
    asked = _asked(ctx, network, normalisation, file, teacher_normalisation, repeat, shipped)
    done = teacher(ctx, **asked)
    observer = Observer(ctx, network, done, mean, std, asked["own"] or (done.info["mean"], done.info["std"]))
    if floor and observer.accuracy < recipe.floor:
        raise TeacherError(
            f"The {network} teacher of {ctx.dataset.name} reaches {observer.accuracy:.1%} on the test split; its recipe"
            f" asks for at least {recipe.floor:.0%}.",
            hint="Soft labels of a weak or wrongly ordered teacher are misleading. Check the data and the teacher's"
            " normalisation, choose another network with -o eval.teacher=…, or give weights with"
            " -o eval.teacher_file=….",
        )
    return observer


def teacher_of(
    ctx: Context,
    network: str,
    normalisation: str = "dataset",
    file: str = "",
    *,
    teacher_normalisation: str = "auto",
    repeat: int = 0,
    shipped: bool = True,
) -> StepCall:
    """Return the step of :func:`get_teacher` with the same arguments, for ``needs``."""
    return teacher.of(ctx, **_asked(ctx, network, normalisation, file, teacher_normalisation, repeat, shipped))


def teacher_identity(ctx: Context, network: str, file: str) -> dict[str, Any]:
    """Return where the weights of a teacher come from and what is said beside a file, for a plugin's ``identity``."""
    path = Path(file).expanduser() if file else None
    return {"teachers": [_source(ctx, network, path, 0, shipped=True)], "about": _about(path)}


def _asked(
    ctx: Context, network: str, normalisation: str, file: str, own: str, repeat: int, shipped: bool
) -> dict[str, Any]:
    """Return the arguments of the step: what the weights depend on of what the caller says."""
    about = _about(Path(file).expanduser() if file else None)
    named = normalisation if own == "auto" else own
    return {
        "network": network,
        "own": _own_constants(ctx.dataset, normalisation, own, about, published(network)),
        "file": Path(file).expanduser() if file else None,
        "repeat": repeat,
        "shipped": shipped and not repeat and named == "dataset",
    }


def _about(file: Path | None) -> Mapping[str, Any]:
    return read_about(file) if file else {}


def _identity(
    ctx: Context, network: str, own: Constants | None, file: Path | None, repeat: int, shipped: bool
) -> dict[str, Any]:
    return {"source": _source(ctx, network, file, repeat, shipped), "about": _about(file)}


def _work(ctx: Context, network: str, own: Constants | None, file: Path | None, repeat: int, shipped: bool) -> float:
    """Training: images × epochs; weights that are there already: test images."""
    data, there = ctx.dataset, file or published(network)
    source = {} if there else _source(ctx, network, None, repeat, shipped)
    return 3 * int(source.get("recipe", {}).get("epochs", 0)) * len(data.train) + len(data.test)


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


def _own_constants(
    data: Dataset, normalisation: str, own: str, about: Mapping[str, Any], weights: Published | None
) -> Constants | None:
    """Mean and std of a teacher's own inputs; None where only the published weights will tell."""
    if own != "auto":
        return constants(data, own)
    if "mean" in about and "std" in about:
        return tuple(about["mean"]), tuple(about["std"])
    return None if weights else constants(data, normalisation)


def _source(ctx: Context, network: str, file: Path | None, repeat: int, shipped: bool) -> dict[str, Any]:
    """Say where the weights come from: published, a file, the ones of ddbench, or training by the recipe."""
    from ddbench_plugins.teachers.bundled import find_bundled_teacher

    weights = published(network)
    known = {"published": network} if weights else {}
    if file:
        if not file.exists():
            raise ModelError(
                f"Teacher file {file} does not exist.", hint="Give a .safetensors or .pth file of its state dict."
            )
        check_file(file, ModelError)
        return {**known, "file": file.name, "sha256": ctx.content_digest(file)}
    if weights:
        return {**known, "sha256": ctx.content_digest(weights_file(weights, offline=ctx.machine.offline))}
    bundled = find_bundled_teacher(ctx.dataset.name, network) if shipped else None
    # Of the very same split: on another one it would have seen test images.
    if bundled and bundled.record["fingerprint"] == ctx.dataset.fingerprint:
        return {"bundled": bundled.weights.name, "sha256": bundled.record["sha256"]}
    recipe = recipe_for(ctx.dataset.name, network)
    return {"recipe": recipe.to_dict(), "seed": derive_seed(0, "teacher", repeat)}


def _network(ctx: Context, network: str, *_: Any) -> list[tuple[str, str]]:
    """Return the network that published weights are of, which their name does not say."""
    return [("network", network_of(network))] if published(network) else []


@step(uses=_network, identity=_identity, work=_work, model="teacher")
def teacher(
    ctx: Context, out: Step, network: str, own: Constants | None, file: Path | None, repeat: int, shipped: bool
) -> None:
    """Train a network by its recipe, or take its weights from where they are, and measure it.

    Args:
        network: a registered name, or published weights.
        own: mean and std of its inputs; None where the weights bring them.
        file: with the weights, if they are in one.
        repeat: which independently trained network.
        shipped: take the weights that come with ddbench where there are any.
    """
    from safetensors.torch import save_file

    from ddbench_plugins.teachers.bundled import sha256
    from ddbench_plugins.training.augment import normalise
    from ddbench_plugins.training.predict import evaluate
    from ddbench_plugins.training.students import test_tensors

    data, machine = ctx.dataset, ctx.machine
    source, recipe = _source(ctx, network, file, repeat, shipped), recipe_for(data.name, network)
    module = ctx.build_network(network_of(network), seed=source.get("seed", 0))
    if "recipe" in source:
        assert own is not None  # only published weights bring their own
        _train(ctx, out, network, module, own, recipe, source["seed"])
        out.info.update(epochs=recipe.epochs)
    else:
        weights = load(ctx, network, module, str(file or ""), _about(file))
        own = own or (weights.mean or data.mean, weights.std or data.std)
        out.info.update(epochs=0, outputs=weights.outputs)
    module.eval()
    test_images, test_labels = test_tensors(data, data.image_size)
    outcome = evaluate(
        module,
        test_images,
        test_labels,
        transform=normalise(*own),
        precision=machine.precision,
        device=machine.device,
    )
    save_file({name: value.contiguous().cpu() for name, value in module.state_dict().items()}, out.dir / WEIGHTS)
    np.save(out.dir / CORRECT, outcome.correct.numpy())
    digest_of_weights = sha256(out.dir / WEIGHTS)
    out.info.update(
        accuracy=outcome.accuracy, weights=digest_of_weights, source=source, mean=list(own[0]), std=list(own[1])
    )


def _train(
    ctx: Context,
    out: Step,
    network: str,
    module: Any,
    own: Constants,
    recipe: TeacherRecipe,
    seed: int,
) -> None:
    import torch

    from ddbench_plugins.teachers.training import train_teacher
    from ddbench_plugins.training.engine import Loop

    images, labels = ctx.dataset.arrays("train")
    with ctx.progress(f"teacher {network}", recipe.epochs) as advance:
        train_teacher(
            module,
            images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
            labels=torch.tensor(np.asarray(labels)),
            recipe=recipe if ctx.dataset.flip else recipe.without_flip(),
            mean=own[0],
            std=own[1],
            seed=seed,
            loop=Loop.of(ctx, advance, out),
        )
