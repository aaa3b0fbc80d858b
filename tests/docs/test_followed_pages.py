"""Pages for users give what they say when they are followed."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_blocks import Reader, blocks

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.usefixtures("shared_teachers")
@pytest.mark.parametrize("page", [pytest.param("index.md", marks=pytest.mark.slow), "data/import.md"])
def test_the_page_can_be_followed(page, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))
    reader = Reader(tmp_path)
    for block in blocks(DOCS / page):
        reader.follow(block)
