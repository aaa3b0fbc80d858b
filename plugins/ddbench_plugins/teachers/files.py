"""Files with a teacher's weights, and what a table beside them says."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ddbench import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

#: Where checkpoints keep their state dict (RDED and timm).
STATE_KEYS = ("model", "state_dict")


def read_about(path: Path) -> dict[str, Any]:
    """Return what a ``.json`` beside a file of weights says: ``class_ids``, ``class_names``, ``mean``, ``std``.

    Raises:
        ModelError: it is not a JSON table.
    """
    beside = path.with_suffix(".json")
    if not beside.exists():
        return {}
    try:
        about = json.loads(beside.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{beside.name} cannot be read: {error}") from error
    if not isinstance(about, dict):
        raise ModelError(f"{beside.name} is not a table.", hint="It may say class_ids, class_names, mean and std.")
    return about


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a ``.safetensors`` or ``.pth`` file, also of ``{"model": state}`` (RDED's teachers).

    Raises:
        ModelError: it cannot be read, or holds more than tensors and plain data.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"The weights in {path.name} cannot be read: {str(error).splitlines()[0]}",
            hint="Give a .safetensors file, or a .pth with a state dict and no other objects.",
        ) from error
    for key in STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not (isinstance(content, Mapping) and content and all(isinstance(v, torch.Tensor) for v in content.values())):
        raise ModelError(
            f"{path.name} holds no state dict.",
            hint=f"It must be a table of tensors, or one under {' or '.join(map(repr, STATE_KEYS))}.",
        )
    return {name.removeprefix("module."): value for name, value in content.items()}
