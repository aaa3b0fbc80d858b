"""Weights that others trained, as teachers: published ones by name, or a file; outputs are matched by class id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench import ModelError, TeacherError
from ddbench_plugins.teachers.files import read_state
from ddbench_plugins.teachers.hubs import Published, published

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from ddbench import Context, Dataset

#: Number of outputs of classifiers whose classes are ImageNet-1K's, in the order of the sorted synset ids.
IMAGENET = 1000
#: What helps where a file is of another network: evaluators take it for the student's unless told otherwise.
NAME_IT = (
    "Name the network that it is of: -o eval.teacher=… (of lrs: eval.teachers=…), or of a method -o method.network=…."
)


@dataclass(frozen=True)
class Weights:
    """State of a network for a data set's classes.

    Attributes:
        state: in the names of the registered network.
        outputs: how many classes the weights had before those of the data set were picked.
        mean, std: normalisation of the inputs where it is known.
    """

    state: Mapping[str, Tensor]
    outputs: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def network_of(name: str) -> str:
    """Return the registered network of a teacher's name."""
    weights = published(name)
    return weights.network if weights else name


def load(ctx: Context, name: str, network: nn.Module, file: str, about: Mapping[str, Any]) -> Weights:
    """Load the weights of teacher ``name`` into ``network``, which has the data set's classes as outputs.

    They are published ones, or those in ``file``, or those that come with ddbench.

    Raises:
        ModelError: there are none, or they do not fit the network or the data set's image size.
        TeacherError: they are of other classes.
    """
    import torch

    from ddbench_plugins.teachers.bundled import find_bundled_teacher

    data = ctx.dataset
    bundled = find_bundled_teacher(data.name, name)
    if known := published(name):
        weights = from_published(network, data, known, file, ctx)
    elif file or bundled is None:
        weights = from_file(network, name, data, Path(file).expanduser(), about)
    else:
        bundled.check()
        weights = from_file(network, name, data, bundled.weights, bundled.record)
    try:
        network.load_state_dict(weights.state)
    except RuntimeError as error:
        words = " ".join(str(error).split()[:40])  # torch lists every parameter
        raise ModelError(f"{Path(file).name or name} does not fit {name}: {words}", hint=NAME_IT) from error
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, data.channels, data.image_size, data.image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"Teacher {name} does not take images of {data.image_size} pixels: {error}",
            hint="Choose another teacher, or another size where the data set has an option for it.",
        ) from error
    return weights


def from_file(network: nn.Module, who: str, dataset: Dataset, path: Path, about: Mapping[str, Any]) -> Weights:
    """Read weights of ``network`` (built for the data set) from a file; they may have other classes as well.

    The file's classes are those that ``about`` names; else ImageNet-1K's, if it has a thousand outputs and the data set
    is a part of that; else those of the data set, in its order.

    Raises:
        ModelError: the file does not fit the network.
        TeacherError: it has other classes.
    """
    state = _own_names(network, read_state(path))
    outputs = _outputs(network, state, path.name, who)
    ids = about.get("class_ids")
    if ids is None and outputs == IMAGENET and set(dataset.class_ids) <= set(imagenet()):
        ids = imagenet()
    if ids is None:
        if outputs != dataset.num_classes:
            raise TeacherError(
                f"Teacher {path.name} has {outputs} outputs, and {dataset.name} has {dataset.num_classes} classes.",
                hint=f"Write the ids of its classes, in its order, as class_ids into {path.with_suffix('.json').name}.",
            )
        _check_names(dataset, path.name, about)
        ids = dataset.class_ids
    if len(ids) != outputs:
        raise TeacherError(f"Teacher {path.name} has {outputs} outputs, but {len(ids)} class ids are named for it.")
    mean, std = (tuple(about[key]) if key in about else None for key in ("mean", "std"))
    return Weights(_pick(network, state, dataset, ids, path.name), outputs, mean, std)


def from_published(network: nn.Module, dataset: Dataset, source: Published, file: str, ctx: Context) -> Weights:
    """Return published weights for ``network`` (built for the data set), from their hub or a file with them.

    Raises:
        ModelError: there are no such weights, or they are not here and cannot be fetched; says what to put where.
        TeacherError: they do not know a class of the data set.
    """
    from ddbench_plugins.teachers import hubs

    fetch = hubs.timm_model if source.family == "timm" else hubs.torchvision_model
    size, channels = dataset.image_size, dataset.channels
    given = read_state(Path(file).expanduser()) if file else None
    whole, mean, std = fetch(source, given, size, channels, offline=ctx.machine.offline)
    state = dict(whole.state_dict())
    outputs = _outputs(network, state, source.name, source.network)
    return Weights(
        _pick(network, state, dataset, hubs.class_ids(outputs, source.name), source.name), outputs, mean, std
    )


def imagenet() -> list[str]:
    """Return the synset ids of ImageNet-1K in the order of its classifiers' outputs."""
    from timm.data import ImageNetInfo

    return list(ImageNetInfo().label_names())


def _own_names(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the parameter names of a timm or torchvision model into those of the network around it."""
    translate = getattr(network, "own_names", None)
    return translate(state) if translate else state


def _outputs(network: nn.Module, state: Mapping[str, Tensor], what: str, who: str) -> int:
    weight = state.get(f"{network.head_name}.weight")
    if weight is None:
        raise ModelError(
            f"{what} does not fit {who}: it has no {network.head_name}.weight.",
            hint=f"It begins with {', '.join(list(state)[:3])}. {NAME_IT}",
        )
    return int(weight.shape[0])


def _pick(
    network: nn.Module, state: dict[str, Tensor], dataset: Dataset, ids: Sequence[str], what: str
) -> dict[str, Tensor]:
    """Return the state with the outputs of the data set's classes only, in its order."""
    places = {name: row for row, name in enumerate(ids)}
    missing = [name for name in dataset.class_ids if name not in places]
    if missing:
        few = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise TeacherError(
            f"Teacher {what} does not know {len(missing)} of the {dataset.num_classes} classes of {dataset.name}:"
            f" {few}.",
            hint="Classes are matched by id (ImageNet's by synset id), never by position. Use another teacher.",
        )
    rows = [places[name] for name in dataset.class_ids]
    head = [f"{network.head_name}.{part}" for part in ("weight", "bias")]
    return {name: value[rows] if name in head else value for name, value in state.items()}


def _check_names(dataset: Dataset, what: str, about: Mapping[str, Any]) -> None:
    names = about.get("class_names")
    if names is not None and tuple(names) != dataset.class_names:
        raise TeacherError(
            f"Teacher {what} was trained for another class order: its class_names begin with {', '.join(names[:3])},"
            f" those of {dataset.name} with {', '.join(dataset.class_names[:3])}.",
            hint="Soft labels would be silently wrong. Use a teacher of this data set, or name its class_ids.",
        )
