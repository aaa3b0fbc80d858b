"""The small diffusion models that ship with the package."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parent.parent / "assets"


def bundled_models() -> list[str]:
    """Names of the data sets with a shipped model."""
    return sorted(path.name for path in ASSETS.iterdir() if (path / "model_index.json").is_file())


def bundled_model(name: str) -> Path:
    """The pipeline folder of the shipped model for data set ``name``; ValueError if there is none.

    ``tools/bundle_diffusion.py`` trains it again.
    """
    if name not in bundled_models():
        raise ValueError(f"no small diffusion model ships for {name!r}; there is one for {bundled_models()}")
    return ASSETS / name
