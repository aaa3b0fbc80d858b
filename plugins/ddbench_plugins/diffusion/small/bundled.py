"""The small diffusion models that ship with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"


def bundled_models() -> list[str]:
    """Names of the data sets with a shipped model."""
    return sorted(path.name for path in ASSETS.iterdir() if (path / "model_index.json").is_file())


def bundled_model(name: str) -> Path:
    """The pipeline folder of the shipped model for data set ``name``; ValueError if there is none.

    ``tools/bundle_diffusion.py`` trains it anew.
    """
    if name not in bundled_models():
        raise ValueError(f"no small diffusion model ships for {name!r}; there is one for {bundled_models()}")
    return ASSETS / name


def bundled_record(name: str) -> dict[str, Any]:
    """How the shipped model was trained: data, preset, seed and the numbers measured at its training."""
    record: dict[str, Any] = json.loads((bundled_model(name) / "training.json").read_text(encoding="utf-8"))
    return record
