"""Every page is in the navigation, links lead somewhere, and texts of the program name pages that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ddbench
from ddbench.results.registry import load
from ddbench.tables.declared import declared
from ddbench.tables.leaderboard import entry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "examples" not in path.parts)
BESIDE = [*ROOT.glob("*.md"), *ROOT.glob("leaderboards/**/*.md"), *ROOT.glob(".github/**/*.md")]


def test_every_page_is_in_the_navigation_once():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = [name for name in re.findall(r"(\S+\.md)$", navigation, re.MULTILINE) if (DOCS / name).exists()]
    assert sorted(listed) == [str(page.relative_to(DOCS)) for page in PAGES]


@pytest.mark.parametrize("page", [*PAGES, *BESIDE], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s:#]+)(?:#[^)\s]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_texts_of_the_program_name_pages_that_exist():
    sources = [
        path
        for folder in ("ddbench", "plugins", "benchmarks", "tools", ".github")
        for path in (ROOT / folder).rglob("*")
    ]
    named = {
        name
        for path in sources
        if path.suffix in (".py", ".toml", ".yml", ".md") and "assets" not in path.parts
        for name in re.findall(r"docs/[\w/.-]+\.\w+", path.read_text("utf-8"))
    }
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert "docs/plugins/index.md" in named


def test_every_public_name_is_in_the_reference_once():
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    shown = [
        name for names in re.findall(r"^<!-- generated: api (.*) -->$", text, re.MULTILINE) for name in names.split()
    ]
    assert sorted(shown) == sorted(set(ddbench.__all__) - {"__version__"})


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"`((?:tests|tools|benchmarks|docs|ddbench|leaderboards)/[\w./-]+)`", page.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_site_loads_nothing_from_elsewhere():
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "font: false" in settings
    assert not re.search(r"https?://|analytics|repo_url|extra_javascript|mermaid", settings)


def test_the_first_table_of_the_readme_follows_from_the_registry():
    lines = [line.strip("| ").split(" | ") for line in (ROOT / "README.md").read_text("utf-8").splitlines()]
    start = next(place for place, line in enumerate(lines) if line[0] == "test accuracy, %")
    records, _ = load(ROOT / "registry", dataset=["digits"], evaluator=["minimax"], ipc=[1])
    named = declared(ROOT / "leaderboards").names
    for name, text, runs in zip(*(lines[start - 2][-5:], lines[start][1:], lines[start + 1][1:]), strict=True):
        method = next(key for key, called in named.items() if called == name.removesuffix(" †"))
        cell = entry([record for record in records if record.cell.method.name == method])
        assert (text.strip("*"), runs) == (cell.text, cell.runs.replace("×", " × "))


def test_the_qualities_of_digits_follow_from_the_registry():
    lines = [line.strip("| ").split(" | ") for line in (DOCS / "protocols/beyond.md").read_text("utf-8").splitlines()]
    start = next(place for place, line in enumerate(lines) if line[0] == "coverage" and len(line) == 9)
    records, _ = load(ROOT / "registry", dataset=["digits"], evaluator=["quality"], ipc=[10])
    for place, metric in enumerate(("coverage", "precision", "top1")):
        shown = dict(zip((name.lower() for name in lines[start - 2][-8:]), lines[start + place][1:], strict=True))
        assert shown == {record.cell.method.name: entry([record], metric).text for record in records}
