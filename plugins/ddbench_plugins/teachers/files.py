"""Files with a teacher's weights, and what a table beside them says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from ddbench import ModelError
from ddbench.files import check_archive, check_file, first_line, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class About(BaseModel):
    """What a table beside a file of weights says, as far as it is read."""

    model_config = ConfigDict(strict=True)

    class_ids: list[str] | None = None
    class_names: list[str] | None = None
    mean: list[FiniteFloat] = []
    std: list[Annotated[FiniteFloat, Field(gt=0)]] = []


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
    text = read_text(beside, ModelError)
    try:
        about: dict[str, Any] = json.loads(text)
        About.model_validate(about)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{beside.name} is not a table as it should be: {f'{where}: ' if where else ''}{first['msg']}",
            hint="It may say class_ids and class_names, lists of text, and mean and std, lists of numbers.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{beside.name} cannot be read: {first_line(error)}") from error
    return about


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a ``.safetensors`` or ``.pth`` file, also of ``{"model": state}`` (RDED's teachers).

    Raises:
        ModelError: it cannot be read, or holds more than tensors and plain data.
    """
    import torch
    from safetensors.torch import load_file

    if path.exists():
        check_file(path, ModelError)
        check_archive(path, ModelError)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or forged file makes of the readers is not to be foreseen
        if isinstance(error, MemoryError):
            raise
        raise ModelError(
            f"The weights in {path.name} cannot be read: {first_line(error)}",
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
