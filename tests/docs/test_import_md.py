"""docs/data/import.md gives what it says when it is followed."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_blocks import Reader, blocks

PAGE = Path(__file__).parents[2] / "docs" / "data" / "import.md"


def test_the_page_can_be_followed(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))
    reader = Reader(tmp_path)
    for block in blocks(PAGE):
        reader.follow(block)
