"""Fetches the published weights of timm and torchvision, or says what to put where."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from ddbench import ModelError, UsageError
from ddbench.files import check_file
from ddbench_plugins.teachers.files import read_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ddbench_plugins.networks.bridges import Bridged

    Constants = tuple[float, ...]

#: What fetching or loading weights raises (the hubs' network errors are OSErrors), damaged ones as well.
FAILURES = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError, EOFError),
    *(pickle.UnpicklingError, SafetensorError),
)


@dataclass(frozen=True)
class Published:
    """Weights of timm or torchvision: ``timm:resnet18.tv_in1k``, ``torchvision:resnet18.IMAGENET1K_V1``."""

    family: str
    architecture: str
    tag: str

    @property
    def name(self) -> str:
        """Name of the teacher."""
        return f"{self.network}.{self.tag}"

    @property
    def network(self) -> str:
        """Registered name of the network that the weights are for."""
        return f"{self.family}:{self.architecture}"


def published(name: str) -> Published | None:
    """Read the name of published weights, which has a tag after a dot; None for any other network."""
    family, _, model = name.partition(":")
    architecture, dot, tag = model.partition(".")
    return Published(family, architecture, tag) if dot and family in ("timm", "torchvision") else None


def check_known(source: Published) -> None:
    """Refuse weights that nobody published.

    Raises:
        UsageError: there are none of that name.
    """
    _timm_config(source) if source.family == "timm" else _torchvision_weights(source)


def timm_model(
    source: Published, given: Mapping[str, Tensor] | None, size: int, channels: int, *, offline: bool
) -> tuple[Bridged, Constants, Constants]:
    """Return timm's model with its published weights (``given`` instead of the hub's), and mean and std of its inputs.

    Raises:
        UsageError: timm knows no such weights.
        ModelError: they are not here and cannot be fetched, or do not fit.
    """
    from ddbench_plugins.networks.bridges import Bridged, create_timm

    config = _timm_config(source)
    state = read_state(weights_file(source, offline=offline)) if given is None else given
    try:
        whole = create_timm(
            f"{source.architecture}.{source.tag}",
            size,
            in_chans=channels,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": dict(state), "custom_load": False},
            num_classes=config.num_classes,
        )
    except FAILURES as error:
        raise _does_not_fit(source, _reason(error)) from error
    return Bridged(whole), tuple(config.mean), tuple(config.std)


def torchvision_model(
    source: Published, given: Mapping[str, Tensor] | None, size: int, channels: int, *, offline: bool
) -> tuple[Bridged, Constants, Constants]:
    """Return torchvision's model with its published weights; arguments and errors as of :func:`timm_model`.

    Its models take RGB images of any size, except transformers, which take the size of their weights.
    """
    from torchvision import models

    from ddbench_plugins.networks.bridges import Bridged

    weights = _torchvision_weights(source)
    if given is None:
        weights_file(source, offline=offline)  # where torchvision looks for it
    try:
        whole = models.get_model(source.architecture, weights=weights if given is None else None)
        if given is not None:
            whole.load_state_dict(given)
    except FAILURES as error:
        raise _does_not_fit(source, _reason(error)) from error
    scaling = weights.transforms()
    return Bridged(whole), tuple(scaling.mean), tuple(scaling.std)


def class_ids(outputs: int, what: str) -> list[str]:
    """Return the synset ids of a published classifier's outputs, by their number (timm's label tables).

    Raises:
        ModelError: no class list has that many.
    """
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        raise ModelError(f"Nobody knows which classes the {outputs} outputs of {what} are.")
    return list(ImageNetInfo(subset).label_names())


def weights_file(source: Published, *, offline: bool) -> Path:
    """Return the file of published weights on this machine, fetched where it is not here.

    Raises:
        UsageError: there are no such weights.
        ModelError: they are not here and cannot be fetched; says what to put where.
    """
    timm = source.family == "timm"
    about = _timm_config(source) if timm else _torchvision_weights(source)
    hint = _timm_hint(about) if timm else _hint(f"download {about.url}", about.url.rpartition("/")[2])
    file = _cached(about)
    if file is None and offline:
        raise _advice(source, "it is not in the local cache and offline mode is on", hint)
    try:
        if file is None:
            _fetch(about)
            file = _cached(about)
    except FAILURES as error:
        raise _advice(source, _reason(error), hint) from error
    if file is None:
        raise _advice(source, "it was not where it was fetched to", hint)
    check_file(file, ModelError)
    return file


def _timm_config(source: Published) -> Any:
    from timm import list_pretrained
    from timm.models import get_pretrained_cfg

    model = f"{source.architecture}.{source.tag}"
    known = list_pretrained(f"{source.architecture}.*")
    if model not in known:
        raise _unknown(source, [name.partition(".")[2] for name in known])
    return get_pretrained_cfg(model)


def _torchvision_weights(source: Published) -> Any:
    from torchvision import models

    if source.architecture not in models.list_models(module=models):
        raise UsageError(f"torchvision has no model {source.architecture!r}.")
    choices = models.get_model_weights(source.architecture)
    if source.tag not in choices.__members__:
        raise _unknown(source, list(choices.__members__))
    return choices[source.tag]


def _names(about: Any) -> list[str]:
    """Return the names that a file of timm's weights may have on the hub; none where it is not on the hub."""
    if not getattr(about, "hf_hub_id", None):
        return []
    return [about.hf_hub_filename] if about.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]


def _cached(about: Any) -> Path | None:
    """Return the file of published weights if it is on this machine."""
    import torch
    from huggingface_hub import try_to_load_from_cache

    for name in _names(about):
        place = try_to_load_from_cache(about.hf_hub_id, name)
        if isinstance(place, str):
            return Path(place)
    kept = Path(torch.hub.get_dir(), "checkpoints", about.url.rpartition("/")[2]) if about.url else None
    return kept if kept and kept.is_file() else None


def _fetch(about: Any) -> None:
    """Fetch published weights to where :func:`_cached` finds them."""
    import torch
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    names = _names(about)
    for name in names:
        try:
            hf_hub_download(about.hf_hub_id, name)
            return
        except EntryNotFoundError:
            if name == names[-1] and not about.url:
                raise
    torch.hub.load_state_dict_from_url(about.url, map_location="cpu", check_hash=True, weights_only=True)


def _timm_hint(config: Any) -> str:
    name = config.hf_hub_filename or "model.safetensors"
    command = (
        f"hf download {config.hf_hub_id} {name} --local-dir FOLDER" if config.hf_hub_id else f"download {config.url}"
    )
    return _hint(command, f"FOLDER/{name}")


def _hint(command: str, file: str) -> str:
    return f"{command}, copy the file here and pass -o eval.teacher_file={file}"


def _unknown(source: Published, tags: list[str]) -> UsageError:
    known = (
        f"Known weights of {source.network}: {', '.join(tags[:20])}{', …' if len(tags) > 20 else ''}."
        if tags
        else f"There are none of {source.network}."
    )
    return UsageError(
        f"There are no published weights {source.name!r} for these images.",
        hint=f"{known} Without a tag, {source.network} is trained on the data set.",
    )


def _advice(source: Published, reason: str, what_to_do: str) -> ModelError:
    return ModelError(
        f"Cannot load the weights of teacher {source.name!r}: {reason}.",
        hint=f"On a machine with network: {what_to_do}. Keep -o eval.teacher={source.name}: it says which network and"
        " normalisation they are for. Without them: name a network that is trained here, such as"
        " -o eval.teacher=convnet-3-bn.",
    )


def _reason(error: Exception) -> str:
    """Return an error's first words; torch lists every parameter that is missing."""
    return " ".join(str(error).split()[:40]) or type(error).__name__


def _does_not_fit(source: Published, reason: str) -> ModelError:
    return ModelError(
        f"These weights do not fit teacher {source.name!r}: {reason}",
        hint="Check -o eval.teacher and eval.teacher_file.",
    )
