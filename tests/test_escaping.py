"""One list of hostile texts, through every function and every command that shows what records say."""

import csv
import html
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from records import dataset_facts, make

from ddbench import escaping
from ddbench.results import schema as records
from ddbench.tables.formats import latex

#: Terminal: colours, title, clipboard, bells, cursor; bidirectional and unseen characters; markup of every format.
HOSTILE = (
    "\x1b[2J\x1b[1;31mred",
    "\x1b]0;title\x07",
    "\x1b]52;c;Y2xpcGJvYXJk\x07",
    "\x9b31mC1\x90",
    "a\rb\x08\x00\x7f",
    "two\nlines\u2028three\u2029four",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[link](https://example.org) ![x](https://example.org/x.png) https://example.org www.example.org a@b.example",
    "| cell | `code` *em* _em_ ~~gone~~ <!-- & &lt; # head",
    '=HYPERLINK("https://example.org")',
    "+1+1",
    "-1+1|cmd",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\\input{x} $\\alpha$ %{}#_^~&",
    "# heading",
)
ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_unseen_acts_in_any_place(text):
    for function in (escaping.one_line, escaping.terminal, escaping.markdown, escaping.html, escaping.csv):
        assert not ACTS.search(function(text).replace("\t", ""))
    for function in (escaping.one_line, escaping.markdown, escaping.html, escaping.figure, latex.escape):
        assert len(function(text).splitlines()) == 1
    assert not escaping.csv(text).startswith(escaping.FORMULA)
    assert "<" not in escaping.html(text) and html.unescape(escaping.html(text)) == escaping.one_line(text)


@pytest.mark.parametrize("text", ["plain", "Ünïcode 图 ✓", "a b", "±0.3 → 1×3", "👩\u200d🔬"])
def test_ordinary_text_stays_what_it_is(text):
    places = (escaping.one_line, escaping.terminal, escaping.html, escaping.csv, escaping.figure, escaping.markdown)
    assert {function(text) for function in places} == {text}


def test_each_place_by_hand():
    assert escaping.one_line("a\r\n\x1b[0m\u202e") == r"a\r\n\x1b[0m\u202e"
    assert escaping.terminal("a\n\tb\x1b") == "a\n\tb\\x1b"
    assert escaping.markdown("[a](b) | *c* <d> http://e www.f g@h") == (
        r"\[a\](b) \| \*c\* \<d\> http:\//e www\.f g\@h"
    )
    assert escaping.markdown("# x") == r"\# x"
    assert [escaping.csv(text) for text in ("=1", "-0.5", "+1e3", "-x", 3, None)] == [
        "'=1",
        "-0.5",
        "+1e3",
        "'-x",
        3,
        None,
    ]
    assert escaping.figure("$\\frac") == r"\$\frac"


def test_the_output_passes_colours_on_and_nothing_else():
    stream = io.StringIO()
    escaping.Output(stream).write("\x1b[1mbold\x1b[0m \x1b]0;t\x07 \x1b[2J ä\n")
    assert stream.getvalue() == "\x1b[1mbold\x1b[0m \\x1b]0;t\\x07 \\x1b[2J ä\n"


def hostile_registry(folder):
    """Records that are in order but for what their texts would do."""
    for number, text in enumerate(HOSTILE):
        record = make("vlcp", (0.5 + number / 100,), seed=number, dataset=dataset_facts("digits"))
        cell = record.cell
        method = cell.method.model_copy(update={"explicit": {"note": text}, "options": {"note": text}})
        data = {**cell.dataset, "origin": text}
        changed = record.model_copy(
            update={
                "cell": cell.model_copy(
                    update={"method": method, "dataset": data, "other_options": {"network": {"x": text}}}
                ),
                "environment": {**record.environment, "processor": text, "command": text},
                "shrunk": [("method.note", text, text)],
            }
        )
        from ddbench.results.registry import record_key

        numerics = {name: str(changed.environment.get(name, "")) for name in ("device", "precision")}
        changed = changed.model_copy(update={"key": record_key(changed.cell, numerics)})
        changed = changed.model_copy(update={"digest": changed.computed_digest()})
        records.write(changed, folder)
    records.write(make("random", (0.4,)), folder)


def run(here, *words, **more):
    environment = {**os.environ, "DDBENCH_HOME": str(here / "home"), **more}
    done = subprocess.run(
        [sys.executable, "-m", "ddbench", *words], cwd=here, env=environment, capture_output=True, check=False
    )
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    hostile_registry(folder / "registry")
    return folder


def test_commands_show_hostile_records_as_text(here):
    paths = sorted(str(path) for path in (here / "registry").rglob("*.json"))
    commands = [
        ("registry", "verify"),
        ("leaderboard",),
        ("leaderboard", "--format", "markdown"),
        ("leaderboard", "--format", "csv"),
        ("leaderboard", "--format", "latex"),
        ("leaderboard", "--format", "html"),
        ("leaderboard", "--check"),
        ("show", *paths),
        ("show", *paths[:2]),
        ("compare", "random", "vlcp"),
        ("registry", "import", "registry", "--registry", "other"),
        ("registry", "export", "out.csv"),
        ("site",),
        ("list", HOSTILE[0]),
        ("data", "check", f"folder:{HOSTILE[1]}"),
        ("run", "-m", HOSTILE[2], "-e", "rded"),
    ]
    for words in commands:
        code, out, err = run(here, *words)
        assert not ACTS.search(out), words
        assert not ACTS.search(err), words
        refused = words[0] in ("list", "data", "run", "compare")  # names that do not exist, or are several variants
        assert code in ((2, 4) if refused else (0,)), (words, err)
    for page in (here / "leaderboards").glob("*.md"):
        text = page.read_bytes().decode("utf-8")
        assert not ACTS.search(text)
        assert (
            not re.search(r"(?<!\\)<(?!/?(u|sup|sub|br|details|summary)>|!-- Written)", text) and "https://" not in text
        )
    with (here / "out.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell.startswith(escaping.FORMULA) and not cell[1:].replace(".", "").isdigit()]
    assert json.loads((here / "registry" / "results").rglob("*.json").__next__().read_text("utf-8"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_output_that_cannot_be_encoded_becomes_escapes(here, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "DDBENCH_HOME": str(here / "home")}
    words = [sys.executable, "-m", "ddbench", "leaderboard", "--board", "digits"]
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and b"unexpected" not in done.stderr and b"vlcp" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_ends_as_documented(here):
    shell = f"{sys.executable} -m ddbench registry verify"
    for redirected, code in ((">/dev/full", 7), (">&-", 0), ("| true", 0), ("2>&-", 0), (">&- 2>&-", 0)):
        line = f"set -o pipefail; {shell} {redirected}"
        done = subprocess.run(["bash", "-c", line], cwd=here, capture_output=True, check=False)
        assert done.returncode == code, (redirected, done.stderr)
        assert b"Traceback" not in done.stderr and b"unexpected" not in done.stderr


def test_pages_and_pictures_of_others_are_not_replaced(here):
    (here / "site2").mkdir()
    (here / "site2" / "index.html").write_text("<html>mine</html>")
    code, _, err = run(here, "site", "--out", "site2")
    assert code == 2 and "not written by ddbench" in err
    assert (here / "site2" / "index.html").read_text() == "<html>mine</html>"
    assert run(here, "site", "--out", "site3")[0] == 0 == run(here, "site", "--out", "site3")[0]
