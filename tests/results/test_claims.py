import os
import re
from pathlib import Path

import pytest

from ddbench.errors import RecordError
from ddbench.results import claims

REGISTRY = Path(__file__).parents[2] / "registry"
ROW = "cifar10,10,vlcp,rded,modified-resnet-18,soft,top1,39.0,0.6,own,paper2025,Table 1,a note"
HEAD = ",".join(claims.COLUMNS)
NINES = "9" * 5000
SOURCES = (
    "# Sources\n\n| key | citation | where read |\n|---|---|---|\n| paper2025 | A. Author, *A Paper* | Table 1 |\n"
)


def read(*rows, known=("paper2025",)):
    return claims.parse("\n".join([",".join(claims.COLUMNS), *rows]) + "\n", known)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / claims.FOLDER).mkdir()
    (tmp_path / claims.FOLDER / claims.SOURCES).write_text(SOURCES)
    claims.path(tmp_path).write_text(",".join(claims.COLUMNS) + f"\n{ROW}\n")
    return tmp_path


def test_the_shipped_claims_are_in_order_and_name_their_sources():
    found = claims.read(REGISTRY).claims
    assert len(found) == 2567
    assert {claim.source for claim in found} == set(claims.read(REGISTRY).citations)
    assert claims.dump(found) == claims.path(REGISTRY).read_text("utf-8")
    assert {claim.kind for claim in found} == set(claims.KINDS)


def test_kernel_regression_is_kept_apart_from_trained_networks():
    """No network is trained under ``krr``: its kernels are no networks of another protocol, and it has no other."""
    found = claims.read(REGISTRY).claims
    kernels = ("kernel-", "random-features-")
    assert all((claim.evaluator == "krr") == claim.network.startswith(kernels) for claim in found)
    solved = [claim for claim in found if claim.method == "ls" and claim.network == "kernel-convnet"]
    notebook = [claim for claim in solved if claim.source == "kip_nb"]
    for claim in (claim for claim in solved if claim.source == "kip2021sub"):
        cells = [own.value for own in notebook if (own.dataset, own.ipc) == (claim.dataset, claim.ipc)]
        assert any(abs(value - claim.value) < 0.051 for value in cells), claim


def test_every_shipped_citation_names_its_work_by_itself():
    """A citation stands below a table without its neighbours."""
    found = claims.read(REGISTRY).citations
    assert not [key for key, citation in found.items() if re.search(r"(?i)\b(the )?same\b|ibid|above|below", citation)]
    assert all("Vision-Language Category Prototype" in found[key] for key in ("vlcp2025", "vlcp2025supp"))
    assert "Tables 1-4" in found["vlcp2025"] and "supplementary" in found["vlcp2025supp"]


def test_the_shipped_files_name_no_folder_of_a_machine():
    for file in (REGISTRY / claims.FOLDER).iterdir():
        assert not re.search(r"/(work|tmp|home|root)/|index id|read_file", file.read_text("utf-8")), file.name


def test_a_claim_keeps_what_was_printed():
    (claim,), problems = read(ROW.replace("39.0", "39.00"))
    assert not problems
    assert claim.text == "39.00 ± 0.6" and claim.value == 39 and claim.deviation == 0.6 and claim.ipc == 10
    (alone,), _ = read(ROW.replace("0.6,own", ",own").replace(",10,", ",full,"))
    assert alone.text == "39.0" and alone.deviation is None and alone.ipc is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("39.0", "nan", "mean 'nan'"),
        ("39.0", "inf", "mean 'inf'"),
        ("39.0", "139.0", "from 0 to 100"),
        ("39.0", "", "mean is empty"),
        ("0.6", "-1", "std '-1'"),
        (",10,", ",0,", "neither a number of images"),
        ("own", "mine", "kind 'mine'"),
        ("paper2025", "elsewhere", "sources.md does not list it"),
        ("vlcp", " vlcp", "spaces"),
        (",a note", "", "12 cells"),
    ],
)
def test_faulty_lines_are_named_and_leave_the_others(old, new, message):
    found, problems = read(
        ROW, ROW.replace("vlcp", "other").replace(old, new) if old != "vlcp" else ROW.replace(old, new)
    )
    assert len(found) == 1
    assert len(problems) == 1 and problems[0].startswith("line 3") and message in problems[0]


def test_a_cell_is_claimed_once_per_table_of_a_source():
    found, problems = read(ROW, ROW.replace("39.0", "40.0"))
    assert len(found) == 1 and "same cell as line 2" in problems[0]


def test_adding_refuses_contradictions_and_keeps_what_is_there(folder):
    new = ROW.replace("Table 1", "Table 2")
    text = ",".join(claims.COLUMNS) + "\n" + "\n".join([ROW, ROW.replace("39.0", "45.0"), new]) + "\n"
    added, problems = claims.add(folder, text)
    assert added == 1 and len(problems) == 1
    assert [claim.table for claim in claims.read(folder).claims] == ["Table 1", "Table 2"]
    _, problems = claims.add(folder, text.replace(ROW + "\n", "").replace(new + "\n", ""))
    assert "39.0 ± 0.6 is already there, not 45.0 ± 0.6" in problems[0]


def test_faulty_claims_are_refused_as_a_whole_when_read_strictly(folder):
    claims.path(folder).write_text("dataset,ipc\n")
    with pytest.raises(RecordError, match="columns must be"):
        claims.read(folder)
    assert claims.read(folder / "absent").claims == ()


def test_aliases_say_what_published_names_mean():
    names = claims.aliases(REGISTRY)
    rded = [
        claim for claim in claims.read(REGISTRY).claims if claim.evaluator == "rded" and claim.network == "convnet-3"
    ]
    assert {names.network_of(claim) for claim in rded} == {"convnet-3-bn"}
    assert names.protocol_of("dc", {"augment": "dsa"}) == "dsa"
    assert names.protocol_of("dc", {"augment": "plain"}) == "dc"


def test_faulty_aliases_are_refused(folder):
    (folder / claims.FOLDER / claims.ALIASES).write_text("[[network]]\npublished = 1\n")
    with pytest.raises(RecordError, match="aliases"):
        claims.read(folder)


def test_accuracies_that_look_like_fractions_are_told_from_small_percentages():
    def found(*means, source="paper2025"):
        rows = [ROW.replace("39.0", mean).replace("Table 1", f"T{n}") for n, mean in enumerate(means)]
        claims_, problems = read(*rows)
        assert not problems
        return [claim.mean for claim in claims.fractions(claims_)]

    assert found("0.144") == found("0.144", "39.0") == ["0.144"]
    assert found("0.39", "0.45") == ["0.39", "0.45"]
    assert found("0.6", "39.0") == []
    assert found("39.0") == []
    assert claims.fractions(claims.read(REGISTRY).claims) == []


HARM = {
    "sources with two of a key": (claims.SOURCES, SOURCES + SOURCES.splitlines()[-1] + "\n", 1, "twice"),
    "sources with half a line": (claims.SOURCES, SOURCES + "| half\n", 1, "no key and citation"),
    "sources of another encoding": (claims.SOURCES, SOURCES.encode("utf-16"), 0, "not UTF-8"),
    "aliases nested without end": (claims.ALIASES, "a = " + "[" * 5000 + "]" * 5000, 1, "not valid TOML"),
    "aliases with an endless number": (claims.ALIASES, "a = " + "9" * 5000, 1, "not valid TOML"),
    "aliases of another encoding": (claims.ALIASES, b"\xff\xfe", 1, "not UTF-8"),
    "aliases of another schema": (claims.ALIASES, "[[network]]\npublished = 1\n", 1, "network.0.published"),
    "claims with a huge field": (claims.FILE, f"{HEAD}\n{ROW}{'x' * 200_000}\n{ROW}\n", 1, "no line of CSV"),
    "claims with an endless budget": (claims.FILE, f"{HEAD}\n{ROW}\n{ROW.replace(',10,', f',{NINES},')}\n", 1, "ipc"),
    "claims with an endless mean": (claims.FILE, f"{HEAD}\n{ROW}\n{ROW.replace('39.0', NINES)}\n", 1, "mean"),
    "claims of another encoding": (claims.FILE, f"{HEAD}\n{ROW}\n".encode("utf-16"), 0, "not UTF-8"),
    "claims that are a pointer": (claims.FILE, "version https://git-lfs.github.com/spec/v1\n", 0, "Git LFS"),
}


@pytest.mark.parametrize("name", HARM)
def test_a_faulty_file_of_claims_is_named_and_hides_nothing_else(folder, name):
    file, content, left, message = HARM[name]
    (folder / claims.FOLDER / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    found, problems = claims.load(folder)
    assert len(found.claims) == left
    assert problems and all(problem.path == f"published/{file}" for problem in problems)
    assert any(message in problem.message for problem in problems)


@pytest.mark.parametrize("file", [claims.FILE, claims.SOURCES, claims.ALIASES])
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling"])
def test_what_is_no_file_of_claims_is_named(folder, file, kind):
    path = folder / claims.FOLDER / file
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    _, problems = claims.load(folder)
    assert [problem.path for problem in problems] == [f"published/{file}"]


def test_a_byte_order_mark_does_no_harm(folder):
    for file in (claims.FILE, claims.SOURCES):
        path = folder / claims.FOLDER / file
        path.write_text("\ufeff" + path.read_text("utf-8"), "utf-8")
    found, problems = claims.load(folder)
    assert len(found.claims) == 1 and not problems
