"""A hub on this machine, and a data set of ten classes whose names sort otherwise than they are numbered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub
from repositories import NUMBERS, SIDE

import ddbench
from ddbench.sets.declared import Declared
from ddbench.sets.importing import read_set
from ddbench.sets.sources import opened


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that huggingface_hub asks in place of the real one; its cache is empty."""
    constants = pytest.importorskip("huggingface_hub.constants")
    served = Hub()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, served.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield served
    served.close()


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """A data set with the classes 1 … 10."""
    path = tmp_path_factory.mktemp("data") / "numbered.npz"
    labels = np.repeat(np.arange(10), 4)
    arrays = {}
    for split in ("train", "test"):
        pixels = np.random.default_rng(len(split)).integers(0, 256, (40, SIDE, SIDE, 1), np.uint8)
        arrays |= {f"{split}_images": pixels, f"{split}_labels": labels}
    np.savez(path, **arrays, class_names=NUMBERS, class_ids=NUMBERS)
    return ddbench.load_dataset(f"npz:{path}")


@pytest.fixture
def bring(numbered):
    """Read a set of the classes 1 … 10, or of another data set, as import and evaluate do; nothing is written."""

    def call(source, name="theirs", dataset=numbered, offline=False, warn=lambda message: None, **declared):
        with opened(Path(source), offline=offline, warn=warn) as found:
            how = {"tables": found.tables, "origin": found.origin, "said": found.said}
            return read_set(found.path, dataset, name, Declared(**declared), warn=warn, **how)

    return call
