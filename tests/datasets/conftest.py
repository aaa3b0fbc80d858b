"""A small tree of images, and loading by name with options."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ddbench import Context, Dataset


def make_image(path: Path, seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def draw() -> Callable[..., None]:
    """Write an image of noise: ``draw(path, seed, (width, height), mode)``."""
    return make_image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with train and test folders: classes b (4 + 2 images) and a_dog (3 + 2 images)."""
    root = tmp_path / "pets"
    for split, counts in (("train", {"b": 4, "a_dog": 3}), ("test", {"b": 2, "a_dog": 2})):
        for name, count in counts.items():
            for i in range(count):
                make_image(root / split / name / f"{i}.png", seed=zlib.crc32(f"{split}{name}{i}".encode()))
    return root


@pytest.fixture
def load(ctx: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Dataset]:
    """Load a data set by name, offline and with no data folder but the given one."""

    def load(name: str, data: Path | str | None = None, **options: Any) -> Dataset:
        if data is not None:
            monkeypatch.setenv("DDBENCH_DATA", str(data))
        scoped = replace(ctx, explicit={"dataset": options}, machine=replace(ctx.machine, offline=True))
        plugin, mine, entry = scoped.use("dataset", name)
        return plugin.load(mine, entry.argument)

    monkeypatch.setenv("DDBENCH_DATA", str(tmp_path / "no-data"))
    return load
