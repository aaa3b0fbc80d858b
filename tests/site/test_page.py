"""The page as text: its data, what is escaped, what it may load."""

import base64
import hashlib
import json
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from records import dataset_facts, make

from ddbench import cli
from ddbench.errors import RecordError
from ddbench.figures import sheets
from ddbench.plugin.contracts import DistilledSet
from ddbench.plugin.options import parse_value
from ddbench.results import claims
from ddbench.results import schema as records
from ddbench.sets.folder import LoadedSet
from ddbench.site import build, data, page, rows

HOSTILE = "<script>alert(1)</script>"
ENDING = "</script><img src=x onerror=alert(2)>\"'`&\u2028"
ASSETS = Path(page.__file__).parent / "assets"


def embedded(html):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL).group(1)
    return json.loads(text)


def written(registry, found):
    for record in found:
        records.write(record, registry)
    return registry


def loaded(digest, prompts=None, classes=2, ipc=3, side=16, channels=1):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (classes * ipc, side, side, channels)).astype(np.uint8)
    distilled = DistilledSet(images, np.repeat(np.arange(classes), ipc), prompts=prompts)
    names = tuple(f"class {number}" for number in range(classes))
    return LoadedSet(distilled, names, names, {"digest": digest}, Path("nowhere"))


def test_rows_put_seeds_together_and_count_gains():
    found = [
        make("random", (0.4, 0.5)),
        make("vlcp", (0.6,), seed=1),
        make("vlcp", (0.7, 0.8)),
        make("vlcp", (0.5,), ipc=1),
    ]
    grouped = {(row.records, row.entry.runs): row for row in rows.rows(found, "random")}
    assert set(grouped) == {((0,), "1×2"), ((2, 1), "2×1–2"), ((3,), "1×1")}
    both = grouped[(2, 1), "2×1–2"]
    assert both.entry.mean == pytest.approx(0.7) and both.gain == pytest.approx(0.25)
    assert grouped[(0,), "1×2"].gain is None and grouped[(3,), "1×1"].gain is None
    assert grouped[(3,), "1×1"].entry.interval is None


def test_one_experiment_is_one_row_whatever_preset_named_it():
    found = [
        make("random", (0.4, 0.42)),
        make("vlcp", (0.6, 0.61), preset="cpu+sane"),
        make("vlcp", (0.62, 0.6), preset="paper+sane", seed=1),
        make("dm", (0.605, 0.61, 0.6)),
        make("dc", (0.7,)),
        make("dc", (0.7, 0.71), evaluator="dc"),
    ]
    ranked = {row.records: (row.entry.rank, row.entry.tied) for row in rows.rows(found, "random")}
    # A single run is best of nothing, and what two others are second to; two sets of vlcp are one entry.
    assert ranked == {(0,): (0, False), (1, 2): (2, False), (3,): (0, False), (4,): (0, False), (5,): (0, False)}
    without = {row.records: (row.entry.rank, row.entry.tied) for row in rows.rows([*found[:4], found[5]], "random")}
    assert without[1, 2] == (1, False) and without[3,] == (2, True) and without[0,] == (0, False)


def test_the_page_holds_what_the_records_say(tmp_path):
    shrunk = [("method.steps", 1000, 8)]
    record = make("vlcp", (0.5, 0.55), explicit={"strength": 0.6}, shrunk=shrunk, extra={"acceptance": {"moved": 0.9}})
    built = build.build(written(tmp_path, [record]), tmp_path)
    assert (built.records, built.claims, built.problems) == (1, 0, ())
    content = embedded(built.html)
    (shown,) = content["records"]
    shared = {name: content["shared"][shown[name]] for name in content["shared_fields"]}
    assert shown["key"] == record.key[:16] and shown["values"] == [0.5, 0.55]
    assert shared["method"]["label"] == "vlcp (strength=0.6)" and shared["environment"] == record.environment
    assert shared["shrunk"] == [["method.steps", 1000, 8]]
    assert shared["extra"] == {"acceptance.moved": 0.9}
    assert content["rows"][0]["mean"] == 52.5 and content["rows"][0]["records"] == [0]
    assert content["boards"][0]["dataset"] == "digits" and content["boards"][0]["csv"].count("\n") == 2
    assert content["boards"][0]["tables"][0]["rows"][0][0]["text"] == "vlcp"


def test_files_to_save_are_whole_however_long():
    """The CSV and LaTeX of a data set are longer than any other text of the page may be."""
    long = "x" * 2 * data.MOST_TEXT
    (board,) = data.page_data([], boards=[{"title": long, "csv": long, "latex": long}])["boards"]
    assert board["csv"] == board["latex"] == long and len(board["title"]) == data.MOST_TEXT


def test_the_same_registry_gives_the_same_page(tmp_path):
    written(tmp_path, [make("random", (0.5,)), make("vlcp", (0.6,))])
    assert build.build(tmp_path, tmp_path).html == build.build(tmp_path, tmp_path).html


def test_hostile_names_prompts_and_notes_stay_text(tmp_path):
    facts = dataset_facts(name=f"set {HOSTILE}")
    found = [
        make(HOSTILE, (0.5,), dataset=facts, explicit={"note": HOSTILE}, extra={"note": HOSTILE}),
        make("quotes \"'`", (0.4,), dataset=facts, network=HOSTILE),
    ]
    written(tmp_path, found)
    sheets.keep(sheets.make(loaded(found[0].distilled.digest, (ENDING,) * 6)), tmp_path)
    html = build.build(tmp_path, tmp_path).html
    assert HOSTILE not in html and "onerror=alert" in html and "<img src=x" not in html
    body = html.split("</style>")[1]
    assert body.count("<script>") == len(page.VENDOR) + 1 == body.count("</script>") - 1
    content = embedded(html)
    assert content["sheets"][found[0].distilled.digest[:20]]["classes"][0]["prompts"][0] == ENDING
    assert HOSTILE in {content["shared"][record["method"]]["name"] for record in content["records"]}


@pytest.mark.parametrize("text", [HOSTILE, ENDING, "<!--", "\u2029", "]]>", "&lt;"])
def test_embedded_json_cannot_leave_its_element(text):
    safe = page.embed({"text": text})
    assert not set(safe) & set("<>&\u2028\u2029")
    assert json.loads(safe) == {"text": text}


def test_a_lone_surrogate_or_an_endless_text_does_no_harm():
    page.embed({"text": "\ud800"}).encode("utf-8")
    assert len(data.clean("x" * 10**6)) == data.MOST_TEXT
    assert data.clean({"a": [math.nan, math.inf, 1.5]}) == {"a": [None, None, 1.5]}


def test_scripts_are_the_listed_ones_and_nothing_else_may_load(tmp_path):
    html = build.build(written(tmp_path, [make()]), tmp_path).html
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html).group(1)
    listed = set(re.findall(r"'sha256-([^']+)'", policy))
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts} == listed
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'" and "connect-src" not in directives
    assert "unsafe" not in directives["script-src"]
    assert not re.search(r"<(link|img|script|iframe)[^>]+(src|href)=[\"'](?!data:)", html.split("<script>")[0])
    assert "@import" not in html and not re.search(r"url\((?!['\"]?\$?\{?(data:|sheet))", html.split("</style>")[0])


def test_bundled_libraries_are_the_documented_ones():
    listed = dict(re.findall(r"^\| (\S+\.js) .* ([0-9a-f]{64}) \|$", (ASSETS / "vendor/README.md").read_text(), re.M))
    assert set(listed) == set(page.VENDOR)
    for name, digest in listed.items():
        assert hashlib.sha256((ASSETS / "vendor" / name).read_bytes()).hexdigest() == digest
        licence = ASSETS / "vendor" / f"{name.removesuffix('.min.js')}.LICENSE.txt"
        assert "Permission" in licence.read_text()
    assert {path.name for path in (ASSETS / "app").glob("*.js")} == set(page.APP)


def test_markup_is_made_in_one_place_only():
    for name in page.APP:
        text = (ASSETS / "app" / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )


def test_faulty_records_are_left_out_and_named(tmp_path):
    good = make("random", (0.5,))
    written(tmp_path, [good])
    path = written(tmp_path, [make("vlcp", (0.6,))]) / "results" / make("vlcp", (0.6,)).relative_path()
    path.write_text(path.read_text().replace('"ipc": 10', '"ipc": 11'))
    (path.parent / "old.json").write_text('{"schema_version": 99}')
    built = build.build(tmp_path, tmp_path)
    assert built.records == 1 and len(built.problems) >= 2
    assert any("old.json" in text and "99" in text for text in built.problems)
    assert embedded(built.html)["problems"] == list(built.problems)
    line = ["site", "--registry", str(tmp_path), "--leaderboards", str(tmp_path), "--out", str(tmp_path / "page")]
    strict = CliRunner().invoke(cli.group, [*line, "--strict"])
    assert isinstance(strict.exception, RecordError) and not (tmp_path / "page").exists()
    result = CliRunner().invoke(cli.group, line)
    assert result.exit_code == RecordError.exit_code and "old.json" in result.stderr
    assert (tmp_path / "page" / build.FILE).exists()


def test_claims_are_beside_and_never_among_the_measured(tmp_path):
    folder = tmp_path / claims.FOLDER
    folder.mkdir(parents=True)
    (folder / claims.SOURCES).write_text("\n| key | citation |\n|---|---|\n| paper | Someone, Somewhere |\n")
    line = "digits,10,vlcp,rded,convnet-3,soft,top1,55.5,0.6,own,paper,Table 1,a note"
    (folder / claims.FILE).write_text(",".join(claims.COLUMNS) + f"\n{line}\n")
    written(tmp_path, [make("vlcp", (0.5,))])
    content = embedded(build.build(tmp_path, tmp_path).html)
    assert len(content["records"]) == len(content["rows"]) == len(content["claims"]) == 1
    assert content["sources"] == {"paper": "Someone, Somewhere"}
    assert content["pairs"][0]["claimed"] == content["claims"][0]["mean"] == 55.5


def test_the_command_makes_the_cell_again():
    record = make("vlcp", (0.5, 0.6), seed=3, explicit={"a": "x y", "b": None, "c": True, "d": [1, "two"], "e": "10"})
    words = shlex.split(data.command(record))
    given = [words[place + 1] for place, word in enumerate(words) if word == "-o"]
    parsed = {pair.partition("=")[0]: parse_value(pair.partition("=")[2]) for pair in given}
    assert parsed == {"method.a": "x y", "method.b": None, "method.c": True, "method.d": [1, "two"], "method.e": "10"}
    assert words[words.index("--seed") + 1] == "3" and words[words.index("--repeats") + 1] == "2"


def test_curves_are_thinned_but_keep_their_ends():
    curve = [(epoch, epoch / 1000) for epoch in range(1, 1001)]
    thin = data.thinned(curve)
    assert len(thin) == data.CURVE_POINTS and thin[0] == curve[0] and thin[-1] == curve[-1]
    assert data.thinned(curve[:5]) == curve[:5]
