"""The tables of the VLCP paper (ICCV 2025), cell for cell, from the registry's claims, in every format."""

import csv
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from records import dataset_facts, make

from ddbench import api
from ddbench.tables import boards, paper
from ddbench.tables.boards import measured
from ddbench.tables.declared import declared
from ddbench.tables.formats import html, latex, markdown
from ddbench.tables.leaderboard import Layout

ROOT = Path(__file__).parents[2]
BOARDS = ("vlcp-table1", "vlcp-table2", "vlcp-table3", "vlcp-table4", "table2", "table3")
#: Column of GitHub's pages, room around a cell's text and width of a character of its tables, in pixels.
COLUMN, ROOM, CHARACTER = 980, 27, 8
#: Texts longer than this are broken at their spaces.
PROSE = 16

# As printed in the supplement: IPC, test network, then the methods; b: bold (best), u: underlined (second).
TABLE2 = """
10 | ConvNet-6   | 17.0 ± 0.3 | 17.2 ± 0.3 | b 24.3 ± 0.5 | 20.1 ± 0.3 | 18.5 ± 0.8 | u 22.3 ± 0.2
10 | ResNetAP-10 | 19.1 ± 0.4 | 19.8 ± 0.3 | b 25.7 ± 0.1 | 21.5 ± 0.3 | 20.0 ± 0.4 | u 24.5 ± 0.1
10 | ResNet-18   | 17.5 ± 0.5 | 16.1 ± 0.2 | b 25.1 ± 0.2 | 20.1 ± 0.9 | 18.5 ± 1.2 | u 23.3 ± 0.5
20 | ConvNet-6   | 24.8 ± 0.2 | 24.3 ± 0.4 | u 28.8 ± 0.3 | 25.9 ± 0.4 | 25.0 ± 0.6 | b 29.3 ± 0.6
20 | ResNetAP-10 | 26.7 ± 0.5 | 27.6 ± 0.1 | u 29.9 ± 0.2 | 27.0 ± 0.4 | 27.3 ± 0.6 | b 32.3 ± 0.6
20 | ResNet-18   | 25.5 ± 0.3 | 24.7 ± 0.1 | u 30.2 ± 0.2 | 26.4 ± 0.3 | 26.6 ± 0.6 | b 31.5 ± 1.1
"""
TABLE3 = """
10 | ResNet-18 (modified) | 16.1 ± 0.2 | u 41.9 ± 0.2 | b 42.6 ± 0.2
50 | ResNet-18 (modified) | 41.1 ± 0.4 | b 58.2 ± 0.1 | u 55.5 ± 0.6
"""
METHODS = {"table2": ["Random", "Herding", "IDC-1", "Minimax", "D4M", "VLCP"], "table3": ["SRe2L", "RDED", "VLCP"]}
PRINTED = {"table2": TABLE2, "table3": TABLE3}


def expected(name):
    """The printed table as (IPC, network, method) → cell."""
    lines = [[cell.strip() for cell in line.split("|")] for line in PRINTED[name].strip().splitlines()]
    return {(ipc, net, m): cell for ipc, net, *cells in lines for m, cell in zip(METHODS[name], cells, strict=True)}


@pytest.fixture(scope="module")
def content():
    return boards.read_registry(ROOT / "registry")


def board(content, name, records=()):
    (made,) = boards.boards(records, declared(ROOT / "leaderboards"), only=name, claims=content.published)
    return made


def claimed_of(grid, tables):
    """A block in some format as (IPC, network, method) → cell; ``tables`` are its lines of cells."""
    network = grid.title.split(", ")[2]
    head, *rows = tables
    budgets = [match and match[1] for match in (re.match(r"IPC (\d+)\W*(?:br\W*)?claimed", cell) for cell in head)]
    return {(ipc, network, row[0]): row[place] for row in rows for place, ipc in enumerate(budgets) if ipc is not None}


def test_the_registry_is_in_order(content):
    assert content.problems == ()


@pytest.mark.parametrize("name", BOARDS)
def test_every_cell_of_the_file_of_claims_is_in_its_block(content, name):
    """Read with the csv module alone, by the names that the paper prints."""
    names = declared(ROOT / "leaderboards").names
    source = ("vlcp2025", f"Table {name[-1]}") if name.startswith("vlcp") else ("vlcp2025supp", f"Table {name[-1]}")
    with (ROOT / "registry" / "published" / "published.csv").open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if (line["source"], line["table"]) == source]
    printed, whole = {}, {}
    for line in lines:
        text = f"{line['mean']} ± {line['std']}"
        data, network = names[line["dataset"]], names.get(line["network"], line["network"])
        if line["ipc"] == "full":
            whole[data, network] = text
        else:
            printed[data, network, names[line["method"]], line["ipc"]] = text
    shown = {}
    for grid in board(content, name).grids:
        data, protocol, network, *_ = grid.title.split(", ")
        assert protocol in ("Minimax protocol", "RDED protocol") and len(grid.headings) <= 8
        assert grid.lead == (f"Whole training set: claimed {whole[data, network]}." if whole else "")
        for row in grid.cells():
            for heading, cell in zip(grid.headings, row, strict=True):
                if heading.name.endswith("claimed") and cell.text != "–":
                    shown[data, network, row[0].text, heading.name.split()[1]] = cell.text
    assert shown == printed and len(printed) >= 6


def test_methods_have_venues_and_stand_in_the_order_of_the_paper(content):
    (grid, *_) = board(content, "vlcp-table1").grids
    assert [row[:2] for row in grid.texts()] == [
        ["Random", ""],
        ["K-Center", "ICLR 2018"],
        ["Herding", "ICML 2009"],
        ["DiT", "ICCV 2023"],
        ["DM", "WACV 2023"],
        ["IDC-1", "ICML 2022"],
        ["GLaD", "CVPR 2023"],
        ["Minimax", "CVPR 2024"],
        ["D4M", "CVPR 2024"],
        ["VLCP", "ICCV 2025"],
    ]


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_markdown(content, name):
    found = {}
    for grid in board(content, name).grids:
        lines = markdown.grid_table(grid).splitlines()
        cells = claimed_of(grid, [line.strip("|").split("|") for line in (lines[0], *lines[2:])])
        found |= {
            key: re.sub(r"^\*\*(.*)\*\*$", r"b \1", re.sub("^<u>(.*)</u>$", r"u \1", cell)).replace("±", " ± ")
            for key, cell in cells.items()
        }
    assert found == expected(name)


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_latex(content, name):
    found = {}
    for grid in board(content, name).grids:
        text = latex.grid(grid)
        lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r"\\")]
        rows = [[c.strip().replace(r"\boldmath", "").replace(r"$\pm$", "±") for c in line.split("&")] for line in lines]
        cells = claimed_of(grid, rows)
        found |= {
            key: re.sub(r"^\\(\w)\w+\{(.*)\}$", lambda m: f"{'b' if m[1] == 't' else 'u'} {m[2]}", cell)
            for key, cell in cells.items()
        }
    assert found == expected(name)


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_html(content, name):
    found, mark = {}, {"strong": "b", "u": "u"}
    for grid in board(content, name).grids:
        rows = [
            re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line) for line in re.findall(r"<tr>.*?</tr>", html.grid_html(grid))
        ]
        cells = claimed_of(grid, rows)
        found |= {
            key: re.sub(r"^<(\w+)>(.*)</\w+>$", lambda m: f"{mark[m[1]]} {m[2]}", cell) for key, cell in cells.items()
        }
    assert found == expected(name)


def test_ours_stands_beside_the_claim_and_is_never_ranked_with_it(content):
    facts = dataset_facts("cifar10")
    how = {"dataset": facts, "network": "modified-resnet-18", "evaluator": "rded"}
    small = [("method.backbone", "large", "small")]
    records = [make("vlcp", (0.5, 0.51), shrunk=small, **how), make("rded", (0.9, 0.9), ipc=50, **how)]
    records += [make("rded", (0.99,), extension="another size", **how), make("sre2l", (0.4, 0.42), **how)]
    (grid, other) = board(content, "vlcp-table4", records).grids
    lines = markdown.grid_table(grid).splitlines()
    assert lines[0] == "|Method|Venue|IPC 10<br>claimed|IPC 10<br>ours|IPC 50<br>claimed|IPC 50<br>ours|"
    assert lines[2:] == [
        "|SRe2L|NeurIPS 2023|29.3±0.5|41.0±1.0<br><sub>1×2</sub>|45.0±0.7|not run|",
        "|RDED|CVPR 2024|<u>37.1±0.3</u>|not run|<u>62.1±0.1</u>|90.0±0.0<br><sub>1×2</sub>|",
        "|VLCP|ICCV 2025|**39.0±0.7**|**50.5±0.5**<sup>a†</sup><br><sub>1×2</sub>|**63.2±0.3**|not run|",
    ]
    letter, sign = grid.notes
    assert letter == "a: backbone small instead of large." and sign.startswith("†: distilled with a small")
    assert {cell.text for row in other.cells() for cell in row[3::2]} == {paper.NOT_RUN}


def test_latex_cites_the_methods_in_the_table_and_ends_with_their_entries(content):
    text = boards.Boards([board(content, "table3")]).to("latex")
    tables, entries = text.split(r"\endinput")
    assert re.findall(r"(\S+)~\\cite\{(\w+)\}", tables) == [
        ("SRe2L", "yin2023sre2l"),
        ("RDED", "sun2024rded"),
        ("VLCP", "zou2025vlcp"),
    ]
    assert re.findall(r"^@\w+\{(\w+),", entries, re.MULTILINE) == ["yin2023sre2l", "sun2024rded", "zou2025vlcp"]
    assert "@" not in tables and latex.boards([board(content, "table3")], {}).count("endinput") == 0


PAGES = sorted((ROOT / "leaderboards").rglob("*.md"))


def width(table):
    """Pixels of a Markdown table, from above: a column is as wide as its longest line that is not broken."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table]
    texts = [[re.sub(r"<sup>|</?u>|\*\*|</?su[bp]>|\\", "", cell) for cell in row] for row in (rows[0], *rows[2:])]

    def longest(cell):
        return max(
            len(word) for line in cell.split("<br>") for word in ([line] if len(line) <= PROSE else line.split())
        )

    return sum(ROOM + CHARACTER * max(map(longest, column)) for column in zip(*texts, strict=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_table_is_wider_than_the_column_of_a_page(page):
    tables = re.findall(r"(?:^\|.*\n)+", page.read_text("utf-8"), re.MULTILINE)
    assert tables and max(width(table.splitlines()) for table in tables) <= COLUMN


def test_pages_are_short_and_begin_with_what_a_reader_came_for():
    index = (ROOT / "leaderboards" / "README.md").read_text("utf-8")
    assert re.search(r"^## (.*)", index, re.MULTILINE)[1] == "VLCP, Table 1: ImageWoof"
    page = (ROOT / "leaderboards" / "cifar10.md").read_text("utf-8")
    assert len(page.split()) <= 2500
    assert page.index("|Method|") < 800 and "style" not in page


SIGNS = "\\#$%&_{}~^<>|\"`'±×→≈…–é中*[]†Δ"
HOSTILE = [make(name, (0.5, 0.6), seed=s, explicit={"o": SIGNS}) for name in (SIGNS, "random") for s in range(3)]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_the_tables_compile(content, tmp_path):
    found = [board(content, name) for name in ("vlcp-table1", "table3")]
    found.append(measured(HOSTILE, [Layout(gain_over="random")], "signs", SIGNS))
    start = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "tables.tex").write_text("\n".join([start, *map(latex.board, found), r"\end{document}"]), "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000


def test_accuracies_by_class_of_the_digits_average_to_the_committed_ones():
    """On the real test labels: weighted by class, they are what the records say."""
    labels = api.labels_of("digits")
    ((made,), _) = boards.of_registry(ROOT / "registry", ROOT / "leaderboards", "digits", lambda name: labels)
    weights = np.bincount(labels[1]) / len(labels[1])
    for row in made.tables[0].rows:
        cells = zip(made.tables[0].columns, row.cells, strict=True)
        overall = {column.label: 100 * cell.mean for column, cell in cells if cell}
        begin, names = f"Accuracy by class: Digits, IPC {row.budget}, {row.name},", set()
        for grid in (grid for grid in made.grids if grid.title.startswith(begin)):  # wide ones are in parts
            for name, *column in zip(grid.heads()[1:], *[line[1:] for line in grid.cells()], strict=True):
                names.add(name)
                parts = sum(w * cell.number for w, cell in zip(weights, column, strict=True))
                assert parts == pytest.approx(overall[name])
        assert names and names == overall.keys() - {"Whole set"}
