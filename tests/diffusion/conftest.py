from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.pipeline import load_pipeline

from ddbench.testing.diffusion import tiny_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class MemoryCheckpoint:
    """Keeps states in memory; ``stop_after`` saves raise, as an interruption would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.state: dict[str, Any] | None = None
        self.saves = 0
        self.stop_after = stop_after

    def load(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: dict[str, Any]) -> None:
        self.state = dict(state)
        self.saves += 1
        if self.saves == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def checkpoint_type() -> type[MemoryCheckpoint]:
    return MemoryCheckpoint


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def pipeline(tiny_folder: Path) -> Any:
    return load_pipeline(tiny_folder, offline=True)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)
