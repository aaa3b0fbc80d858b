"""Fixtures every test can use: a private artifact folder, and the embedded data set loaded once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from ddbench.plugin.manager import load_plugins
from ddbench.runtime.context import Context
from ddbench.runtime.progress import Reporter
from ddbench.runtime.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from ddbench.plugin.datasets import Dataset

# A busy machine is no failure.
settings.register_profile("ddbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ddbench")

# Several workers share the cores, and what they start does, too (before torch is imported).
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

# Tests never reach for a model hub; what is not on this machine must be refused with an explanation.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")


@pytest.fixture(autouse=True)
def _private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of teachers for all workers: the first test that needs one trains it, and the others wait."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "teachers"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def shared_teachers(tmp_path: Path, teachers: Path) -> None:
    """Let the private artifact folder take its teachers from those of all tests."""
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "teacher").symlink_to(teachers)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """A context without a data set."""
    return Context(plugins=load_plugins(), store=Store(tmp_path / "home"), reporter=Reporter())


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The embedded data set."""
    import ddbench

    return ddbench.load_dataset("digits")


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory):
    """A BERT of 16 numbers with random weights, whose words are letters and a few of the captions'."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("encoder") / "tiny-bert"
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join([*words, "red", "green", "blue", "dark", "bright", "left", "right"]))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=128)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder
