"""The supplementary Tables 2 and 3 of the VLCP paper (ICCV 2025), cell for cell, from the registry's claims."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from records import make

from ddbench.tables import boards, long
from ddbench.tables.board import Board, Claimed
from ddbench.tables.declared import declared
from ddbench.tables.formats import html, latex, markdown
from ddbench.tables.leaderboard import Layout, build

ROOT = Path(__file__).parents[2]

# As printed: IPC, test network, Random, Herding, IDC-1, Minimax, D4M, VLCP; b: bold (best), u: underlined (second).
TABLE2 = """
10 | ConvNet-6   | 17.0 ± 0.3 | 17.2 ± 0.3 | b 24.3 ± 0.5 | 20.1 ± 0.3 | 18.5 ± 0.8 | u 22.3 ± 0.2
10 | ResNetAP-10 | 19.1 ± 0.4 | 19.8 ± 0.3 | b 25.7 ± 0.1 | 21.5 ± 0.3 | 20.0 ± 0.4 | u 24.5 ± 0.1
10 | ResNet-18   | 17.5 ± 0.5 | 16.1 ± 0.2 | b 25.1 ± 0.2 | 20.1 ± 0.9 | 18.5 ± 1.2 | u 23.3 ± 0.5
20 | ConvNet-6   | 24.8 ± 0.2 | 24.3 ± 0.4 | u 28.8 ± 0.3 | 25.9 ± 0.4 | 25.0 ± 0.6 | b 29.3 ± 0.6
20 | ResNetAP-10 | 26.7 ± 0.5 | 27.6 ± 0.1 | u 29.9 ± 0.2 | 27.0 ± 0.4 | 27.3 ± 0.6 | b 32.3 ± 0.6
20 | ResNet-18   | 25.5 ± 0.3 | 24.7 ± 0.1 | u 30.2 ± 0.2 | 26.4 ± 0.3 | 26.6 ± 0.6 | b 31.5 ± 1.1
"""
# IPC, test network, SRe2L, RDED, VLCP
TABLE3 = """
10 | ResNet-18 (modified) | 16.1 ± 0.2 | u 41.9 ± 0.2 | b 42.6 ± 0.2
50 | ResNet-18 (modified) | 41.1 ± 0.4 | b 58.2 ± 0.1 | u 55.5 ± 0.6
"""
HEADS = {
    "table2": ["IPC", "Network", "Random", "Herding", "IDC-1", "Minimax", "D4M", "VLCP"],
    "table3": ["IPC", "Network", "SRe2L", "RDED", "VLCP"],
}
PRINTED = {"table2": TABLE2, "table3": TABLE3}


def expected(name):
    return [[cell.strip() for cell in line.split("|")] for line in PRINTED[name].strip().splitlines()]


@pytest.fixture(scope="module")
def content():
    return boards.read_registry(ROOT / "registry")


def board(content, name):
    (found,) = boards.boards((), declared(ROOT / "leaderboards"), only=name, claims=content.published)
    return found


@pytest.fixture(params=["table2", "table3"])
def name(request):
    return request.param


def test_the_registry_is_in_order(content):
    assert content.problems == ()


def test_markdown(content, name):
    lines = [line for line in markdown.board(board(content, name)).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
    found = [[re.sub(r"^\*\*(.*)\*\*$", r"b \1", re.sub("^<u>(.*)</u>$", r"u \1", c)) for c in row] for row in rows]
    assert found == [HEADS[name], *expected(name)]


def test_latex(content, name):
    text = latex.board(board(content, name))
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line.removesuffix(r" \\") for line in body.strip().splitlines() if line != r"\midrule"]
    rows, budget = [], ""
    for line in lines:
        cells = [cell.strip().replace(r"\boldmath", "").replace(r"$\pm$", "±") for cell in line.split("&")]
        budget = cells[0] or budget
        cells[0] = budget
        rows.append(
            [re.sub(r"^\\(\w)\w+\{(.*)\}$", lambda m: f"{'b' if m[1] == 't' else 'u'} {m[2]}", c) for c in cells]
        )
    assert rows == [HEADS[name], *expected(name)]


def test_html(content, name):
    (table,) = board(content, name).tables
    text = html.table_html(table)
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line) for line in re.findall(r"<tr>.*?</tr>", text)]
    mark = {"strong": "b", "u": "u"}
    found = [[re.sub(r"^<(\w+)>(.*)</\w+>$", lambda m: f"{mark[m[1]]} {m[2]}", c) for c in row] for row in rows]
    assert found == [HEADS[name], *expected(name)]


def test_claims_are_marked_as_such_and_name_their_source(content, name):
    (table,) = board(content, name).tables
    assert table.claimed and "ICCV 2025" in dict(table.facts)["Source vlcp2025supp"]
    assert all(isinstance(cell, Claimed) for row in table.rows for cell in row.cells)


def test_the_committed_pages_are_up_to_date(content, name):
    page = ROOT / "leaderboards" / f"{name}.md"
    assert page.read_text("utf-8") == markdown.board(board(content, name))


SIGNS = "\\#$%&_{}~^<>|\"`'±×→≈…–é中*[]"
HOSTILE = [make(name, (0.5, 0.6), seed=s) for name in (SIGNS, "random") for s in range(3)]


def many_signs():
    return build(HOSTILE, Layout(gain_over="random"), name="signs", title=SIGNS)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_the_tables_compile(content, tmp_path):
    found = [board(content, name) for name in ("table2", "table3")]
    hostile = many_signs()
    found += [hostile, Board("long", "Long", (), (long.grid(HOSTILE, Layout(), hostile.title),))]
    (tmp_path / "tables.tex").write_text(latex.document(found), "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000
