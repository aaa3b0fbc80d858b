"""The tutorial of docs/plugins works as written, page by page, and its files are those of docs/examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_blocks import Reader, blocks, matches

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("index", "method", "dataset", "evaluator", "captioner", "testing", "mistakes")
BLOCKS = [block for page in PAGES for block in blocks(DOCS / "plugins" / f"{page}.md")]


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    reader = Reader(folder)
    for block in BLOCKS:
        reader.follow(block)
    assert {block.language for block in BLOCKS} == {"python", "console", "toml", "sh"}


@pytest.mark.parametrize("path", sorted((DOCS / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_are_those_of_the_tutorial(path):
    assert path.read_text("utf-8") in [block.text for block in BLOCKS if block.file == path.name]


def test_the_smallest_method_is_small():
    lines = (DOCS / "examples" / "central.py").read_text("utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


@pytest.mark.parametrize(
    ("shown", "found", "same"),
    [
        ("a\n…\nb\n", "a\nx\ny\nb\n", True),
        ("a\n…\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\nx\nb\n", False),
        ("✓ x: 1.5 s (0c17ec95)\n", "✓ x: 12 s (aaaaaaaa)\n", True),
        ("a … c\n", "a b   c\n", True),
        ("a\n", "b\n", False),
    ],
)
def test_output_is_compared_loosely_but_compared(shown, found, same):
    assert matches(shown, found) is same
