"""Files of a known form: the base of their parts, TOML text, and where a file first departs from its form."""

from __future__ import annotations

import tomllib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ddbench.errors import DDBenchError


class Part(BaseModel):
    """Base of what a file holds: immutable, unknown names refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_toml(text: str, name: str, kind: type[DDBenchError], hint: str = "") -> dict[str, Any]:
    """Read TOML text.

    Args:
        text: of the file.
        name: of the file, for the message.
        kind, hint: of the error.

    Raises:
        DDBenchError: not TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOML's own errors, numbers without end, tables nested too deeply
        raise kind(f"{name} is not valid TOML: {error}", hint=hint) from error


def first_flaw(error: ValidationError) -> str:
    """Return the first place that does not fit, and why: ``cells.ipc: Input should be a valid integer``."""
    first = error.errors(include_url=False, include_input=False)[0]
    words = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("tuple_type", "list_type"):  # pydantic's words name a type of Python
        words = 'write a list, such as [1,2] or ["a","b"]'
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), words)))
