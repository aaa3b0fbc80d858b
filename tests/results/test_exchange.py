import csv
import errno
import io
import json
import multiprocessing
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from records import make

from ddbench import cli
from ddbench.errors import UsageError
from ddbench.files import locks
from ddbench.results import exchange, registry
from ddbench.results import schema as records
from ddbench.results.schema import Record, pack_bits

ROOT = Path(__file__).parents[2]


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


@pytest.fixture
def theirs(tmp_path):
    folder = tmp_path / "theirs"
    for method in ("vlcp", "random"):
        records.write(make(method, (0.5, 0.6)), folder)
    return folder


@pytest.fixture
def ours(tmp_path):
    return tmp_path / "ours"


def write_many(folder, method, turns):
    for repeats in turns:
        record = make(method, [0.5 + 0.005 * n for n in range(repeats)])
        exchange.keep(record, Path(folder), lambda message: None)
        exchange.keep(make(method, (0.5,), ipc=repeats), Path(folder), lambda message: None)


def test_two_processes_writing_at_once_lose_nothing(ours):
    context = multiprocessing.get_context("spawn")
    turns = ([5, 1, 8, 2], [3, 7, 4, 6])
    workers = [context.Process(target=write_many, args=(str(ours), "vlcp", turn)) for turn in turns]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert registry.check(ours).problems == ()
    found = registry.load(ours)[0]
    assert {record.cell.ipc for record in found} == {1, 2, 3, 4, 5, 6, 7, 8, 10}
    assert max(len(record.result.values) for record in found if record.cell.ipc == 10) == 8


def test_keeping_never_shortens_nor_replaces_what_is_no_extension(ours):
    said = []
    exchange.keep(make("vlcp", (0.5, 0.6)), ours, said.append)
    assert len(exchange.keep(make("vlcp", (0.5,)), ours, said.append).result.values) == 2
    exchange.keep(make("vlcp", (0.5, 0.6, 0.7)), ours, said.append)
    assert not said and len(registry.load(ours)[0][0].result.values) == 3
    other = exchange.keep(make("vlcp", (0.8,)), ours, said.append)
    assert len(said) == 1 and "another result of the same cell" in said[0] and "kept beside" in said[0]
    usual, beside = registry.paths(ours)
    assert exchange.path_of(other, ours) == beside and records.read(beside) == other
    assert len(records.read(usual).result.values) == 3 and exchange.path_of(records.read(usual), ours) == usual
    # Again, or with more repeats, it takes its own place; a third result has a third.
    exchange.keep(make("vlcp", (0.8,)), ours, said.append)
    exchange.keep(make("vlcp", (0.8, 0.9)), ours, said.append)
    assert registry.paths(ours) == [usual, beside] and records.read(beside).result.values == [0.8, 0.9]
    exchange.keep(make("vlcp", (0.1,)), ours, said.append)
    assert len(registry.paths(ours)) == 3


def test_of_two_results_of_a_cell_the_first_counts_and_both_are_in_order(ours):
    first, second = make("vlcp", (0.5,)), make("vlcp", (0.8,))
    for record in (first, second):
        exchange.keep(record, ours, lambda message: None)
    assert registry.load(ours) == ([first], [])
    exchange.path_of(first, ours).unlink()
    assert registry.load(ours) == ([second], [])


def test_a_faulty_record_is_not_overwritten(ours):
    said = []
    exchange.keep(make("vlcp", (0.5,)), ours, said.append)
    (path,) = registry.paths(ours)
    path.write_text("{")
    record = exchange.keep(make("vlcp", (0.5,)), ours, said.append)
    assert path.read_text() == "{" and "left as it is" in said[0]
    assert records.read(exchange.path_of(record, ours)) == record


def _altered(record, **parts):
    """A valid record with other parts."""
    record = record.model_copy(update=parts)
    return record.model_copy(update={"digest": record.computed_digest()})


def test_a_record_extends_another_only_if_every_shared_run_is_the_same():
    short, long = make("vlcp", (0.5,)), make("vlcp", (0.5, 0.6))
    assert exchange.extends(long, short) and exchange.extends(short, short) and not exchange.extends(short, long)
    assert not exchange.extends(make("vlcp", (0.6, 0.5)), short)
    # As many right answers, but to other images.
    result = long.result.model_copy(
        update={"correct": [pack_bits(~long.result.correct_bits(0)), long.result.correct[1]]}
    )
    assert result.last == long.result.last and result.correct_bits(0).mean() == 0.5
    assert not exchange.extends(_altered(long, result=result), short)
    # Other images, another protocol, or a text that was edited afterwards.
    assert not exchange.extends(make("vlcp", (0.5, 0.6), images="others"), short)
    assert not exchange.extends(make("vlcp", (0.5, 0.6), settings={"epochs": 1}), short)
    assert not exchange.extends(long.model_copy(update={"shrunk": [("method.steps", 50, 20)]}), short)


def test_import_adds_extends_and_never_overwrites_silently(ours, theirs):
    first = exchange.import_records(theirs, ours)
    assert len(first.added) == 2 and not first.refused
    assert len(exchange.import_records(theirs, ours).same) == 2
    records.write(make("vlcp", (0.5, 0.6, 0.7)), theirs)
    records.write(make("random", (0.9, 0.6)), theirs)
    report = exchange.import_records(theirs, ours)
    assert len(report.extended) == 1 and len(report.refused) == 1
    assert "contradicts ours" in report.refused[0].message and "75.00% there, 55.00% here" in report.refused[0].message
    assert len(exchange.import_records(theirs, ours, replace=True).replaced) == 1
    assert registry.check(ours).problems == ()


def test_a_folder_that_cannot_be_read_is_refused_by_name_and_the_rest_comes_in(ours, theirs, monkeypatch):
    closed, scan = theirs / "results" / "digits" / "vlcp", os.scandir

    def scandir(path):
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = exchange.import_records(theirs, ours)
    assert [str(problem) for problem in report.refused] == ["results/digits/vlcp: cannot be read: Permission denied"]
    assert len(report.added) == 1 and "random" in report.added[0]
    (problem,) = registry.check(theirs).problems
    assert problem == report.refused[0]


def test_links_that_lead_back_are_read_once(theirs):
    (theirs / "results" / "digits" / "again").symlink_to(theirs / "results")
    assert len(registry.record_files(theirs / "results")[0]) == 2


def test_import_refuses_faulty_records_by_name(ours, theirs, capsys):
    path = registry.paths(theirs)[0]
    content = json.loads(path.read_text())
    content["result"]["values"] = content["result"]["last"] = [0.9, 0.9]
    path.write_text(json.dumps(content))
    code, out, err = command(capsys, "registry", "import", theirs, "--registry", ours)
    assert code == 8
    assert path.name in err and "edited" in err
    assert "1 added" in out and "1 refused" in out
    assert registry.check(ours).problems == ()


def test_a_record_by_pull_request(ours, theirs, capsys):
    """The documented path: import, verify, leaderboard, check."""
    out = ours.parent / "boards"
    assert command(capsys, "registry", "import", theirs, "--registry", ours)[0] == 0
    code, text, _ = command(capsys, "registry", "verify", "--registry", ours)
    assert code == 0 and text == "2 records and 0 claims in order.\n"
    assert command(capsys, "leaderboard", "--registry", ours, "--out", out)[0] == 0
    assert command(capsys, "leaderboard", "--registry", ours, "--out", out, "--check")[0] == 0
    path = registry.paths(ours)[0]
    path.write_text(path.read_text().replace("0.6", "0.7"))
    code, _, err = command(capsys, "registry", "verify", "--registry", ours)
    assert code == 8 and path.name in err and "edited" in err
    code, _, err = command(capsys, "leaderboard", "--registry", ours, "--out", out, "--check")
    assert code == 1 and "digits.md is out of date" in err and path.name in err
    code, text, err = command(capsys, "leaderboard", "--registry", ours, "--out", out, "--board", "digits")
    assert code == 8 and "55.0 ± 5.0" in text and path.name in err


def test_export_and_back(ours, theirs, tmp_path, capsys):
    code, out, _ = command(capsys, "registry", "export", ours, "--registry", theirs, "--method", "vlcp")
    assert code == 0 and out.startswith("1 records")
    assert [record.cell.method.name for record in registry.load(ours)[0]] == ["vlcp"]
    with pytest.raises(UsageError, match="holds records already"):
        exchange.to_folder(registry.load(theirs)[0], ours)
    target = tmp_path / "all.csv"
    assert command(capsys, "registry", "export", target, "--registry", theirs)[0] == 0
    lines = target.read_text().splitlines()
    assert lines[0].startswith("dataset,fingerprint,ipc,method") and len(lines) == 5
    assert command(capsys, "registry", "export", target, "--registry", theirs)[0] == 2


def test_csv_carries_no_formula():
    text = exchange.to_csv([make("=cmd()", (0.5,))])
    assert ",'=cmd()," in text


def test_a_line_of_csv_has_every_fact_of_one_network():
    record = make("vlcp", (0.5, 0.6), options={"steps": 50}, shrunk=[("method.steps", 50, 20)], seed=3)
    result = record.result.model_copy(update={"best": [None, 0.65]})
    one, two = csv.DictReader(io.StringIO(exchange.to_csv([_altered(record, result=result)])))
    assert list(one) == list(exchange.COLUMNS)
    shared = {
        **{"dataset": "digits", "fingerprint": "f1" * 32, "ipc": "10", "method": "vlcp"},
        **{"method_options": '{"steps": 50}', "seed": "3", "evaluator": "rded", "evaluator_options": "{}"},
        **{"network": "convnet-3", "preset": "cpu+sane", "protocol": record.protocol.digest, "extension": ""},
        **{"label_type": "soft", "selection": "last", "distill_seconds": "1.0", "evaluate_seconds": "2.0"},
        **{"bytes_images": "5000", "bytes_labels": "160", "shrunk": '[["method.steps", 50, 20]]'},
        **{"key": record.key, "digest": one["digest"], "distilled": record.distilled.digest},
        **{"evaluation_seed": "0", "variant": "vlcp"},
    }
    assert one == shared | {"repeat": "0", "value": "0.5", "last": "0.5", "best": ""}
    assert two == shared | {"repeat": "1", "value": "0.6", "last": "0.6", "best": "0.65"}
    costs = record.costs.model_copy(update={"distill_seconds": None})
    (line,) = csv.DictReader(io.StringIO(exchange.to_csv([make("vlcp").model_copy(update={"costs": costs})])))
    assert line["distill_seconds"] == ""


def test_a_registry_that_another_process_holds_is_waited_for_and_nothing_is_lost(ours, monkeypatch):
    import filelock

    ours.mkdir()
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    said = []
    held = filelock.SoftFileLease(ours / exchange.LOCK, lease_duration=locks.LEASE, thread_local=False)
    held.acquire()

    def tell(message):
        said.append(message)
        if len(said) == 3:
            held.release()

    exchange.keep(make("vlcp"), ours, tell)
    assert len(said) == 3 and all("waiting for another process" in line and "registry ours" in line for line in said)
    assert len(registry.paths(ours)) == 1


def test_claims_come_in_from_csv(ours, tmp_path, capsys):
    shutil.copytree(ROOT / "registry" / "published", ours / "published")
    file = ours / "published" / "published.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-2]) + "\n")
    given = tmp_path / "new.csv"
    given.write_text("\n".join([lines[0], *lines[-3:], re.sub(",(top1|[ti]r@10),", ",top9,", lines[-1])]) + "\n")
    code, out, err = command(capsys, "registry", "import", given, "--registry", ours)
    assert code == 8 and out == "2 claims added\n"
    assert "refused line 5: metric 'top9' is not known" in err
    assert len(file.read_text().splitlines()) == len(lines)


def test_the_documented_schema_is_the_records_own():
    text = (ROOT / "docs" / "reference" / "record.schema.json").read_text("utf-8")
    assert json.loads(text) == Record.model_json_schema(), (
        "run: ddbench registry schema > docs/reference/record.schema.json"
    )


@pytest.mark.slow
def test_the_benchmark_of_large_registries_reads_every_record_once_a_step(tmp_path, monkeypatch):
    """What it takes is told by benchmarks/boards.py; that it grows with the records and no faster is told here."""
    import runpy

    from ddbench.results import registry as reading

    bench = runpy.run_path(str(ROOT / "benchmarks" / "boards.py"))
    bench["fill"](tmp_path, 200)
    opened: Counter[Path] = Counter()
    plain = reading.read

    def counted(path, *rest, **more):
        opened[path] += 1
        return plain(path, *rest, **more)

    monkeypatch.setattr(reading, "read", counted)
    steps = bench["measure"](tmp_path, ROOT / "leaderboards")
    assert len(opened) == len(registry.paths(tmp_path)) and set(opened.values()) == {1}
    assert all(seconds > 0 for seconds in steps.values())


def test_records_of_the_pipeline_pass_every_check(tmp_path):
    """The registry recomputes keys by the same rule as the pipeline, which writes them."""
    import ddbench

    plugin = Path(__file__).parents[1] / "toy_plugin.py"
    settings = {"dataset": "toy", "ipc": 2, "plugins": [plugin], "registry": tmp_path / "registry"}
    ddbench.run("toy", "nearest-mean", **settings)
    assert len(registry.load(tmp_path / "registry")[0]) == 1
    assert registry.check(tmp_path / "registry").problems == ()


def test_import_takes_the_good_ones_among_bad_ones_of_every_kind(ours, theirs, capsys):
    from test_registry import bad_files

    names = bad_files(theirs / "results")
    code, out, err = command(capsys, "registry", "import", theirs, "--registry", ours)
    assert code == 8 and out.startswith("2 added") and f"{len(names)} refused" in out
    assert all(name in err for name in names)
    assert registry.check(ours).problems == () and len(registry.load(ours)[0]) == 2


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("leaderboard", "--out", "boards"), 8),
        (("compare", "vlcp", "random"), 8),
        (("registry", "export", "out"), 8),
        (("registry", "export", "out.csv"), 8),
        (("registry", "verify"), 8),
        (("site", "--out", "page"), 8),
        (("site", "--out", "page", "--strict"), 8),
    ],
)
def test_commands_go_on_without_bad_records_and_end_with_the_documented_code(
    theirs, tmp_path, capsys, monkeypatch, words, wanted
):
    from test_registry import bad_files

    monkeypatch.chdir(tmp_path)
    names = bad_files(theirs / "results")
    code, _, err = command(capsys, *words, "--registry", theirs)
    assert code == wanted and all(name in err for name in names)
    made = {"leaderboard": "boards/digits.md", "site": "page/index.html"}
    if wanted == 0 or words[0] == "leaderboard":
        assert (tmp_path / made[words[0]]).is_file()


def test_import_holds_the_lock_only_while_it_places_a_record(ours, theirs, monkeypatch):
    """A run that ends meanwhile keeps its record: it waits for one file at most, not for the whole import."""
    check, free = exchange.flaws, []

    def look(record):
        with locks.leased(ours / exchange.LOCK):
            free.append(record.cell.method.name)
        return check(record)

    ours.mkdir()
    monkeypatch.setattr(exchange, "flaws", look)
    assert len(exchange.import_records(theirs, ours).added) == 2 and len(free) == 2


def test_results_beside_each_other_come_in_both(ours, theirs):
    exchange.keep(make("vlcp", (0.7,)), theirs, lambda message: None)
    assert len(exchange.import_records(theirs, ours).added) == 3
    assert len(exchange.import_records(theirs, ours).same) == 3
    assert registry.check(ours).problems == ()


def test_csv_tells_networks_apart(theirs):
    first, second = exchange.to_csv([make("a", (0.5, 0.6))]).splitlines()[1:]
    columns = list(exchange.COLUMNS)
    line = dict(zip(columns, next(csv.reader([first])), strict=True))
    assert line["distilled"] == make("a").distilled.digest and line["evaluation_seed"] == "0" and line["repeat"] == "0"
    assert dict(zip(columns, next(csv.reader([second])), strict=True))["repeat"] == "1"


def test_claims_that_look_like_fractions_are_refused_unless_said(ours, tmp_path, capsys):
    shutil.copytree(ROOT / "registry" / "published", ours / "published")
    lines = (ours / "published" / "published.csv").read_text().splitlines()
    row = lines[-1].split(",")
    place = lines[0].split(",").index("mean")
    (ours / "published" / "published.csv").write_text("\n".join(lines[:-1]) + "\n")
    row[place], row[place + 1] = "0.144", ""
    given = tmp_path / "new.csv"
    given.write_text("\n".join([lines[0], ",".join(row)]) + "\n")
    code, out, err = command(capsys, "registry", "import", given, "--registry", ours)
    assert code == 8 and out == "0 claims added\n" and "0.144 looks like a fraction" in err and "--percent" in err
    assert command(capsys, "registry", "import", given, "--percent", "--registry", ours)[:2] == (0, "1 claims added\n")
