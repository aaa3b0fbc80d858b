import json
import random
from dataclasses import replace

import pytest
from records import dataset_facts, make

from ddbench.errors import UsageError
from ddbench.results.claims import Claim
from ddbench.tables import pages
from ddbench.tables.boards import Published, boards
from ddbench.tables.declared import Claims, Columns, Declared, Page, declared
from ddbench.tables.formats import csv_json as data
from ddbench.tables.formats import html, latex, markdown, terminal
from ddbench.tables.leaderboard import Layout, build, entry

LAYOUT = Layout(first=("random", "herding"), gain_over="random")


def only(records, layout=LAYOUT):
    (table,) = build(records, layout, name="digits", title="Digits").tables
    return table


def labels(table):
    return [column.label for column in table.columns]


def test_columns_are_baselines_then_names_then_the_whole_set():
    records = [make(m) for m in ("vlcp", "d4m", "herding", "random")] + [make("full", ipc=None)]
    assert labels(only(records)) == ["random", "herding", "d4m", "vlcp", "full"]


def test_a_cell_pools_sets_and_repeats():
    table = only([make("vlcp", (0.5, 0.6), seed=s) for s in (0, 1)] + [make("vlcp", (0.8, 0.8), seed=2)])
    (cell,) = table.rows[0].cells
    assert cell.runs == "3×2"
    assert cell.mean == pytest.approx(0.6333333)
    assert cell.text == "63.3 ± 12.5"  # population deviation
    assert table.runs == "3×2"


@pytest.mark.parametrize(("metric", "bounded"), [("top1", True), ("last", True), ("hlr", False)])
def test_the_interval_of_an_accuracy_stays_within_it_and_that_of_other_metrics_does_not(metric, bounded):
    record = make("vlcp", (0.9, 0.98), metrics=[{"hlr": 0.9}, {"hlr": 0.98}])
    low, high = entry([record], metric).interval
    centre, half = 0.94, 12.706 * 0.04  # t(0.975) with one degree of freedom times s / sqrt(2)
    assert (low, high) == pytest.approx((centre - half, 1.0 if bounded else centre + half), abs=1e-4)


def test_unequal_runs_are_said_in_the_cell():
    table = only([make("random", (0.5, 0.5)), make("vlcp", (0.5,)), make("d4m", (0.6, 0.7))])
    assert "(1×1)" in markdown.table(table)
    assert table.runs == "1×2"
    mixed = only([make("vlcp", (0.5, 0.5)), make("vlcp", (0.5,), seed=1)])
    assert mixed.rows[0].cells[0].runs == "2×1–2"


def test_a_method_alone_in_its_row_is_compared_with_nobody():
    table = only([make("a", (0.70, 0.71, 0.72), seed=seed) for seed in (0, 1, 2)])
    assert not table.rows[0].cells[0].tied


def test_best_second_and_ties_by_what_is_shown():
    table = only([make("a", (0.5,)), make("b", (0.7,)), make("c", (0.6,)), make("full", (0.9,), ipc=None)])
    assert [cell.rank for cell in table.rows[0].cells] == [0, 1, 2, 0]
    text = markdown.table(table)
    assert "**70.0**" in text and "<u>60.0</u>" in text and "| 90.0 |" in text
    tied = only([make("a", (0.7,)), make("b", (0.7,)), make("c", (0.6,))])
    assert [cell.rank for cell in tied.rows[0].cells] == [1, 1, 2]
    alone = only([make("a", (0.7,))])
    assert alone.rows[0].cells[0].rank == 0


def test_gains_are_over_the_baseline():
    table = only([make("random", (0.5,)), make("vlcp", (0.575,)), make("full", (0.9,), ipc=None)])
    assert [cell.gain for cell in table.rows[0].cells] == [None, pytest.approx(0.075), None]
    assert markdown.gains(table).splitlines()[-1] == "| 10 | convnet-3 | +7.5 |"


def test_rows_are_ipc_by_network_and_the_whole_set_is_in_each_of_its_network():
    records = [make("vlcp", (0.5,), ipc=i, network=n) for i in (10, 1) for n in ("resnet-18", "convnet-3")]
    records.append(make("full", (0.9,), ipc=None, settings={"epochs": 60, "label_type": "hard"}))
    table = only(records)
    assert [(row.budget, row.network) for row in table.rows] == [
        ("1", "convnet-3"),
        ("1", "resnet-18"),
        ("10", "convnet-3"),
        ("10", "resnet-18"),
    ]
    assert [row.cells[1] is not None for row in table.rows] == [True, False, True, False]


def test_the_whole_set_alone_makes_a_table_too():
    table = only([make("full", (0.9,), ipc=None)])
    assert table.rows[0].budget == "full"
    assert table.rows[0].cells[0].text == "90.0"


def test_results_of_different_protocols_never_share_a_row():
    table = only([make("random", (0.5,)), make("vlcp", (0.7,), settings={"batch_size": 20})])
    assert [row.budget for row in table.rows] == ["10 (a)", "10 (b)"]
    assert all(sum(cell is not None for cell in row.cells) == 1 for row in table.rows)
    text = "\n".join(table.notes)
    assert "batch_size=20" in text and "batch_size=absent" in text


def test_variants_are_tables_of_their_own():
    records = [
        make("vlcp"),
        make("vlcp", eval_explicit={"epochs": 5}, settings={"epochs": 5}),
        make("vlcp", preset="paper+sane", options={"steps": 50}),
        make("vlcp", extension="no published settings for this data set"),
        make("vlcp", evaluator="minimax"),
        make("vlcp", dataset=dataset_facts(fingerprint="ab" * 32)),
        make("full", (0.9,), ipc=None),
    ]
    board = build(records, LAYOUT)
    titles = [table.title for table in board.tables]
    assert len(titles) == 6
    assert "rded (epochs=5), cpu+sane" in titles
    assert "rded, cpu+sane, extension" in titles
    extension = next(table for table in board.tables if table.title.endswith("extension"))
    assert any("never compare with published cells" in note for note in extension.notes)
    assert labels(extension) == ["vlcp", "full"]


def test_options_versions_and_changed_defaults_are_columns_of_their_own():
    records = [
        make("vlcp", (0.5,), options={"strength": 0.7}),
        make("vlcp", (0.6,), explicit={"strength": 0.6}),
        make("vlcp", (0.7,), options={"strength": 0.8}, seed=1),
        make("vlcp", (0.8,), options={"strength": 0.7}, version=2),
    ]
    found = labels(only(records))
    assert len(found) == len(set(found)) == 4
    assert "vlcp (strength=0.6)" in found
    assert any("version=2" in text for text in found)


def test_references_of_other_recipes_are_told_apart_by_their_protocol():
    records = [make("full", (value,), ipc=None, settings={"epochs": n}) for value, n in ((0.9, 60), (0.8, 30))]
    found = labels(only([*records, make("vlcp"), make("random")]))
    digests = [record.protocol.digest[:8] for record in records]
    assert found == ["random", "vlcp", *(f"full (protocol={digest})" for digest in sorted(digests))]


def test_only_doubled_names_have_more_in_them():
    records = [make("vlcp", options={"strength": s}, seed=n) for n, s in enumerate((0.7, 0.8))]
    found = labels(only([*records, make("d4m", options={"steps": 50}), make("random")]))
    assert found == ["random", "d4m", "vlcp (strength=0.7)", "vlcp (strength=0.8)"]


def test_shrinking_acceptance_teacher_and_selection_are_told():
    settings = {"teacher": {"network": "convnet-3", "accuracy": 0.956}, "selection": "best_test"}
    record = make(
        "vlcp",
        settings=settings,
        shrunk=[("method.steps", 1000, 50), ("eval.epochs", 300, 40)],
        extra={"acceptance": {"recognition": {"rate": 0.91, "per_class": [0.9, 0.92]}, "copies": False}},
    )
    table = only([record, make("random", settings=settings, shrunk=[("eval.epochs", 300, 40)])])
    facts, text = dict(table.facts), "\n".join(table.notes)
    assert facts["Teacher"] == "convnet-3, accuracy 95.6 %"
    assert facts["Labels"] == "soft"
    assert "chosen on the test split" in facts["Accuracy"]
    assert "16×16×1, 2 classes, 1,000 training and 200 test images" in facts["Data set"]
    assert "vlcp, paper → used here: steps 1000 → 50." in text
    assert text.count("epochs 300 → 40") == 1
    assert "vlcp, acceptance: recognition.rate 0.91, copies no." in text


def test_output_does_not_depend_on_the_order_of_records_and_names_no_folder():
    records = [make(m, (0.5, 0.6), seed=s, ipc=i) for m in ("random", "vlcp") for s in (0, 1) for i in (1, 10)]
    first = markdown.board(build(records, LAYOUT, name="digits", title="Digits"))
    random.Random(0).shuffle(records)
    assert markdown.board(build(records, LAYOUT, name="digits", title="Digits")) == first
    assert first.startswith(markdown.MARK)
    assert first.endswith("\n") and "/tmp" not in first and "\n\n\n" not in first


def test_markup_in_names_is_escaped():
    text = markdown.board(build([make("a|b*c")], LAYOUT, name="d", title="x_y"))
    assert "a\\|b\\*c" in text and "# x\\_y" in text


def test_csv_and_json():
    made = [build([make("random", (0.5, 0.6)), make("vlcp", (0.7,))], LAYOUT, name="digits", title="Digits")]
    lines = data.to_csv(made).splitlines()
    assert len(lines) == 3
    row = lines[1]
    assert row.startswith("digits,f1f1") and row.endswith(",1,2")
    assert lines[2].endswith("vlcp,measured,0.700000,,,,1,1")
    assert json.loads(data.to_json(made))[0]["tables"][0]["rows"][0]["cells"][0]["values"] == [0.5, 0.6]


def test_the_terminal_shows_the_same_numbers_uncut(capsys):
    board = build([make(f"a-method-with-a-long-name-{n}", (0.5, 0.6)) for n in range(12)], LAYOUT)
    terminal.show(board)
    out = capsys.readouterr().out
    assert out.count("55.0 ± 5.0") == 12
    assert "a-method-with-a-long-name-11" in out


def write(folder, records):
    return pages.write(folder, pages.render(boards(records, declared(folder))))


def test_pages_are_written_once_checked_and_removed_when_stale(tmp_path):
    records = [make("random"), make("random", dataset=dataset_facts("folder:cats"))]
    assert write(tmp_path, records) == ["README.md", "digits.md", "folder-cats.md"]
    assert write(tmp_path, records) == []
    rendered = pages.render(boards(records[:1], declared(tmp_path)))
    assert pages.changes(tmp_path, rendered) == [
        "README.md is out of date",
        "folder-cats.md is no longer made from any record",
    ]
    (tmp_path / "own.md").write_text("mine")
    write(tmp_path, records[:1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "digits.md", "own.md"]


def test_a_file_of_the_user_is_never_replaced(tmp_path):
    (tmp_path / "digits.md").write_text("my notes")
    with pytest.raises(UsageError, match="not written by ddbench"):
        write(tmp_path, [make("random")])
    assert (tmp_path / "digits.md").read_text() == "my notes"


def test_boards_are_declared_as_data(tmp_path):
    (tmp_path / "boards.toml").write_text(
        '[columns]\nfirst = ["vlcp"]\n[[board]]\nname = "small"\ntitle = "Small budgets"\nipc = [1]\n'
        'method = ["vlcp"]\n'
    )
    records = [make(m, ipc=i) for m in ("vlcp", "d4m") for i in (1, 10)] + [make("full", ipc=None)]
    small = boards(records, declared(tmp_path), only="small")
    assert [board.title for board in small] == ["Small budgets"]
    (table,) = small[0].tables
    assert labels(table) == ["vlcp", "full"] and [row.ipc for row in table.rows] == [1]
    with pytest.raises(UsageError, match="Did you mean 'digits'"):
        boards(records, declared(tmp_path), only="digts")
    (tmp_path / "boards.toml").write_text("[colums]\n")
    with pytest.raises(UsageError, match="colums"):
        declared(tmp_path)


def many(method, values, sets=3, **how):
    return [make(method, values, seed=seed, **how) for seed in range(sets)]


def test_methods_that_a_test_does_not_tell_from_the_best_are_marked():
    def spread(method, centre):
        return [make(method, (centre + 0.01 * seed, centre), seed=seed) for seed in range(3)]

    table = only(spread("a", 0.70) + spread("b", 0.705) + spread("c", 0.5) + [make("d", (0.6,))])
    a, b, c, d = table.rows[0].cells
    assert (a.tied, b.tied, c.tied, d.tied) == (True, False, False, False)
    assert b.rank == 1 and a.rank == 2 and d.versus_best is None
    text = markdown.board(build(spread("a", 0.70) + spread("b", 0.705), LAYOUT, name="d", title="D"))
    assert "<sup>≈</sup> |" in text and "≈ not distinguishable" in text
    assert any("single run" in line for line in table.legend)
    assert only([make("a", (0.7,)), make("b", (0.6,))]).legend == ()


def test_gains_that_hold_a_test_are_marked():
    table = only([r for m, v in (("random", 0.5), ("vlcp", 0.6)) for r in many(m, (v, v + 0.005))])
    assert table.rows[0].cells[1].gain_p < 0.05
    assert markdown.gains(table).endswith("| +10.0\\* |")


def test_names_from_plugins_and_files_are_harmless_everywhere():
    record = make("<script>alert(1)</script>", (0.5,), dataset=dataset_facts("a\\b_{c}%$#&~^"))
    board = build([record], LAYOUT, name="x", title="<b>T</b>")
    assert "<script" not in html.board_html(board) and "&lt;script&gt;" in html.board_html(board)
    assert "<script" not in markdown.board(board).replace("\\<script", "")
    assert r"\textbackslash{}b\_\{c\}\%\$\#\&\textasciitilde{}\textasciicircum{}" in latex.board(board)


def test_the_long_style_has_one_line_per_cell_with_costs_and_gain():
    content = Declared(columns=Columns(gain_over="random"), board=(Page(name="long", title="All", style="long"),))
    (board,) = boards(many("vlcp", (0.6, 0.7)) + many("random", (0.5, 0.5)), content, only="long")
    (grid,) = board.grids
    lines = [dict(zip(grid.heads(), row, strict=True)) for row in grid.texts()]
    assert [line["Method"] for line in lines] == ["random", "vlcp"]
    assert lines[1]["Gain (points)"] == "+15.0" and lines[0]["Gain (points)"] == "–"
    assert lines[1]["Images (kB)"] == "5.0" and lines[1]["Evaluate (s)"] == "2.0" and lines[1]["Runs"] == "3×2"
    text = data.to_csv([board])
    assert text.startswith("Data set,IPC,Method") and len(text.splitlines()) == 3
    record = make("vlcp", (0.6,))
    unknown = record.model_copy(update={"costs": record.costs.model_copy(update={"distill_seconds": None})})
    (board,) = boards([unknown], content, only="long")
    assert dict(zip(board.grids[0].heads(), board.grids[0].texts()[0], strict=True))["Distil (s)"] == "–"


def test_boards_choose_protocols_seeds_and_metrics():
    records = [*many("vlcp", (0.6,)), make("random", (0.5,))]
    protocol = records[0].protocol.digest

    def board(**how):
        content = Declared(board=(Page(name="own", title="Own", **how),))
        return boards(records, content, only="own")

    assert labels(board(minimum_seeds=3)[0].tables[0]) == ["vlcp"]
    assert board(protocol=("0000",)) == []
    assert len(labels(board(protocol=(protocol[:8],))[0].tables[0])) == 2
    assert board(metric="no-such-metric") == [] and board(metric="last") != [] and board(metric="best") == []
    with pytest.raises(UsageError, match="no-such-board"):
        boards(records, Declared(), only="no-such-board")


def _scored(method, *hlr):
    return make(method, [0.5] * len(hlr), metrics=[{"hlr": value, "lrs": 0.3} for value in hlr])


def test_a_board_of_several_metrics_has_tables_for_each():
    records = [_scored("random", 0.4, 0.5), _scored("vlcp", 0.2, 0.21), make("herding"), make("full", ipc=None)]
    how = {"metric": ["lrs", "hlr", "none-has-it"], "lower_is_better": ["hlr"]}
    content = Declared(board=(Page(name="own", title="Own", **how),))
    (board,) = boards(records, content, only="own")
    assert [table.title for table in board.tables] == ["rded, cpu+sane, lrs", "rded, cpu+sane, hlr"]
    assert all(labels(table) == ["random", "vlcp"] for table in board.tables)
    first, second = board.tables
    assert [cell.rank for cell in first.rows[0].cells] == [1, 1]
    assert [(cell.text, cell.rank) for cell in second.rows[0].cells] == [("45.0 ± 5.0", 0), ("20.5 ± 0.5", 1)]
    assert second.rows[0].cells[0].versus_best is not None and second.rows[0].cells[1].versus_best is None
    assert dict(first.facts)["Metric"] == "lrs (higher is better)"
    assert dict(second.facts)["Metric"] == "hlr (lower is better)"
    assert "Metric" not in dict(only(records).facts)
    assert Page(name="own", title="Own", metric="last").metric == ("last",)


def test_the_long_board_names_its_metric():
    content = Declared(board=(Page(name="own", title="Own", style="long", metric=("top1", "hlr")),))
    (board,) = boards([_scored("vlcp", 0.2)], content, only="own")
    assert [grid.title for grid in board.grids] == ["Own", "Own: hlr"]
    assert ["Accuracy (%)" in grid.heads() for grid in board.grids] == [True, False]
    heads, (row,) = board.grids[1].heads(), board.grids[1].texts()
    assert dict(zip(heads, row, strict=True))["hlr (%)"] == "20.0"


def test_claims_stand_beside_and_never_among_measured_numbers():
    claim = Claim("digits", 10, "vlcp", "rded", "convnet-3", "soft", "top1", "61.0", "", "own", "paper", "T1", "")
    content = Declared(claims=Claims(kind=("own",)))
    found = Published((claim, replace(claim, kind="other", table="T2"), replace(claim, evaluator="idc")))
    (board,) = boards([make("vlcp", (0.6,))], content, claims=found)
    measured, claimed = board.tables
    assert not measured.claimed and claimed.claimed
    assert labels(claimed) == ["vlcp [paper]"] and claimed.rows[0].cells[0].text == "61.0"
    assert ",own,0.610000,,,,," in data.to_csv([board])


def test_a_data_set_named_like_a_page_takes_another_name():
    names = ["readme", "Table9", "a/b", "a-b"]
    found = [make(dataset=dataset_facts(name, f"{number}" * 64)) for number, name in enumerate(names)]
    declared = Declared(board=(Page(name="table9", title="Table 9", dataset=("a-b",)),))
    assert [board.name for board in boards(found, declared)] == ["Table9-2", "a-b", "a-b-2", "readme-2", "table9"]
