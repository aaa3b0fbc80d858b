import csv
import io
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from records import dataset_facts, make

from ddbench.errors import UsageError
from ddbench.results.claims import Claim
from ddbench.tables import classes, pages, variants, views
from ddbench.tables.board import Board, Grid, Heading, Shown
from ddbench.tables.boards import Published, boards, measured
from ddbench.tables.declared import Claims, Declared, Mark, Page, declared
from ddbench.tables.formats import csv_json as data
from ddbench.tables.formats import html, latex, markdown, terminal
from ddbench.tables.leaderboard import Layout, build, entry

LAYOUT = Layout(first=("random", "herding"), gain_over="random")


def only(records, layout=LAYOUT):
    (table,) = build(records, layout)
    return table


def page(records, layout=LAYOUT, title="Digits"):
    return measured(records, [layout], "digits", title)


def shown(records, layout=LAYOUT):
    """The Markdown lines of the first grid."""
    return markdown.grid_table(page(records, layout).grids[0]).splitlines()


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


@pytest.mark.parametrize(("metric", "bounded"), [("top1", True), ("last", True), ("hlr", False)])
def test_the_interval_of_an_accuracy_stays_within_it_and_that_of_other_metrics_does_not(metric, bounded):
    record = make("vlcp", (0.9, 0.98), metrics=[{"hlr": 0.9}, {"hlr": 0.98}])
    low, high = entry([record], metric).interval
    centre, half = 0.94, 12.706 * 0.04  # t(0.975) with one degree of freedom times s / sqrt(2)
    assert (low, high) == pytest.approx((centre - half, 1.0 if bounded else centre + half), abs=1e-4)


def test_unequal_runs_are_said_in_the_cell():
    records = [make("random", (0.5, 0.5)), make("vlcp", (0.5,)), make("d4m", (0.6, 0.7))]
    assert shown(records)[2:] == [
        "|random|<u>50.0±0.0</u><sup>≈</sup>|",
        "|d4m|**65.0±5.0**|",
        "|vlcp|50.0<br><sub>1×1</sub>|",
    ]
    assert "1×2 unless a small line says otherwise" in page(records).lead
    mixed = only([make("vlcp", (0.5, 0.5)), make("vlcp", (0.5,), seed=1)])
    assert mixed.rows[0].cells[0].runs == "2×1–2"


def test_a_method_alone_in_its_row_is_compared_with_nobody():
    table = only([make("a", (0.70, 0.71, 0.72), seed=seed) for seed in (0, 1, 2)])
    assert not table.rows[0].cells[0].tied


def twice(method, value, **how):
    return make(method, (value, value), **how)


def test_best_second_and_ties_by_what_is_shown():
    records = [twice("a", 0.5), twice("b", 0.7), twice("c", 0.6), twice("full", 0.9, ipc=None)]
    assert [cell.rank for cell in only(records).rows[0].cells] == [0, 1, 2, 0]
    assert shown(records)[2:] == ["|a|50.0±0.0|", "|b|**70.0±0.0**|", "|c|<u>60.0±0.0</u>|", "|full|90.0±0.0|"]
    tied = only([twice("a", 0.7), twice("b", 0.7), twice("c", 0.6)])
    assert [cell.rank for cell in tied.rows[0].cells] == [1, 1, 2]
    assert only([twice("a", 0.7)]).rows[0].cells[0].rank == 0


def test_a_single_run_is_never_the_best_and_hides_who_else_would_be():
    cells = only([make("a", (0.7,)), twice("b", 0.6), twice("c", 0.5)]).rows[0].cells
    assert [cell.rank for cell in cells] == [0, 2, 0]
    assert [cell.rank for cell in only([make("a", (0.7,)), make("b", (0.6,))]).rows[0].cells] == [0, 0]
    assert shown([make("a", (0.364,)), make("b", (0.3,))])[2:] == ["|a|36.4|", "|b|30.0|"]


def test_gains_are_over_the_baseline():
    table = only([make("random", (0.5,)), make("vlcp", (0.575,)), make("full", (0.9,), ipc=None)])
    assert [cell.gain for cell in table.rows[0].cells] == [None, pytest.approx(0.075), None]


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
    assert table.rows[0].budget == "full" and table.rows[0].extension == ""
    assert table.rows[0].cells[0].text == "90.0"


def test_results_of_different_protocols_never_share_a_row_or_a_column():
    records = [make("random", (0.5,)), make("vlcp", (0.7,), settings={"batch_size": 20})]
    table = only(records)
    assert len({row.protocol for row in table.rows}) == 2
    assert all(sum(cell is not None for cell in row.cells) == 1 for row in table.rows)
    head, _, *rows = shown(records)
    ordered = sorted(records, key=lambda record: record.protocol.digest)
    marks = ["<sup>a</sup>" if record.cell.method.name == "vlcp" else "" for record in ordered]
    assert head == f"|Method|rded{marks[0]}|rded{marks[1]}|"
    assert page(records).grids[0].notes == ("a: batch_size=20.",)  # what sets one apart, in words
    assert [row.count("||") for row in rows] == [1, 1]  # an empty cell beside the only number
    assert any("batch 20" in line for line in page(records).grids[1].notes)


def test_a_setting_without_a_network_names_none():
    records = [make("kip", network="none"), make("kip", network="none", settings={"kernel": "ntk"})]
    assert "none" not in shown(records)[0]


def test_settings_stand_beside_each_other_and_data_sets_apart():
    records = [
        make("vlcp"),
        make("vlcp", eval_explicit={"epochs": 5}, settings={"epochs": 5}),
        make("vlcp", (0.6,), preset="paper+official", options={"steps": 50}, settings={"epochs": 301}),
        make("vlcp", extension="no published settings for this data set"),
        make("vlcp", evaluator="minimax"),
        make("vlcp", dataset=dataset_facts(fingerprint="ab" * 32)),
        make("full", (0.9,), ipc=None),
    ]
    first, second = build(records, LAYOUT)
    assert [len(table.rows) for table in (first, second)] == [1, 5]
    (grid, *_) = page(records[:5]).grids
    names = ["Method", "minimax", "rded", "rded, extension", "rded", "rded, official"]
    assert sorted(heading.name for heading in grid.headings) == sorted(names)
    assert [heading.marks for heading in grid.headings].count("a") == 1 and grid.notes == ("a: epochs=5.",)
    protocols = next(part for part in page(records[:5]).grids if part.title == "Protocols")
    assert any("Extension (no published settings for this data set): never" in line for line in protocols.notes)


def test_the_whole_set_belongs_to_its_evaluator_and_fidelity_whatever_the_extension():
    records = [make("vlcp", evaluator=e) for e in ("rded", "idc")] + [make("full", (0.9,), ipc=None)]
    rows = only([*records, make("vlcp", extension="none published")]).rows
    whole = {(row.name, row.extension): row.cells[1] is not None for row in rows}
    assert whole == {("idc", ""): False, ("rded", ""): True, ("rded", "none published"): True}


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


def test_what_was_scaled_down_is_behind_letters_and_the_rest_is_folded_away():
    teacher = {"network": "convnet-3", "accuracy": 0.956, "source": {"file": "a"}, "weights": "0123"}
    settings = {"teacher": teacher, "selection": "best_test"}
    record = make(
        "vlcp",
        settings=settings,
        shrunk=[("method.steps", 1000, 50), ("eval.epochs", 300, 40), ("eval.augment", "auto", "dsa")],
        extra={"acceptance": {"recognition": {"rate": 0.91, "per_class": [0.9, 0.92]}, "copies": False}},
    )
    made = page([record, make("random", settings=settings, shrunk=[("eval.epochs", 300, 40)])])
    matrix, protocols, figures = made.grids
    assert matrix.notes == ("a: 40 of 300 epochs.", "b: 50 of 1000 steps.")
    assert [heading.marks for heading in matrix.headings] == ["", "a"] and matrix.rows[1][1].marks == "b"
    assert "16×16×1, 2 classes, 1,000 training and 200 test images" in matrix.lead
    (line,) = protocols.notes
    assert "teacher.accuracy=0.956; teacher.network=convnet-3; teacher.weights=0123" in line and "file" not in line
    assert "selection=best_test" in line and "label_type=soft" in line
    assert figures.texts() == [["recognition.rate", "0.91"], ["copies", "no"]]
    assert [part.folded for part in made.grids] == [False, True, True]
    text = markdown.board(made)
    assert text.count("<details><summary>") == text.count("</details>") == 2


def test_variants_of_a_method_are_lines_told_apart_by_letters():
    records = [make("mtt", (0.4,), explicit={"steps": n}, shrunk=[("method.steps", 9, n)]) for n in (3, 5)]
    assert shown([*records, make("random", (0.1,))])[2:] == [
        "|random|10.0|",
        "|mtt|40.0<sup>a</sup>|",
        "|mtt|40.0<sup>b</sup>|",
    ]
    assert page(records).grids[0].notes == ("a: 3 of 9 steps.", "b: 5 of 9 steps.")


def test_signs_are_declared_as_data():
    content = Declared(mark=(Mark(sign="†", option="method.backbone", value="small", text="small model"),))
    (board,) = boards([make("vlcp", (0.5,), shrunk=[("method.backbone", "large", "small")])], content)
    assert "|vlcp|50.0<sup>a†</sup>|" in markdown.board(board) and "- †: small model." in markdown.board(board)


def test_families_have_tables_of_their_own_with_evaluators_as_lines():
    values = {"random": (0.2, 0.2), "dm": (0.4, 0.4), "kip": (0.6, 0.6), "mine": (0.3, 0.3)}
    records = [make(method, value, ipc=ipc) for method, value in values.items() for ipc in (1, 10)]
    records += [make("random", (0.1, 0.1), evaluator="dc"), make("full", (0.9,), ipc=None)]
    families = {"selection": ("random",), "matching": ("dm", "dc"), "kernel": ("kip",)}
    content = Declared(
        families=families, names={"digits": "Digits"}, board=(Page(name="f", title="F", style="families"),)
    )
    board = boards(records, content)[-1]
    assert [grid.title for grid in board.grids] == [
        "Digits: selection", "Digits: matching", "Digits: kernel", "Digits: others"
    ]  # fmt: skip
    selection, matching, kernel, others = map(markdown.grid_table, board.grids)
    assert selection.splitlines() == [
        "|Evaluator|Network|Method|IPC 1|IPC 10|",
        "|---|---|---|---:|---:|",
        "|dc|convnet-3|random||10.0±0.0|",
        "|rded|convnet-3|random|20.0±0.0|20.0±0.0|",
    ]
    # the best and the second are those of all families
    assert "|rded|convnet-3|dm|<u>40.0±0.0</u>|<u>40.0±0.0</u>|" in matching
    assert "|rded|convnet-3|kip|**60.0±0.0**|**60.0±0.0**|" in kernel and "|mine|30.0±0.0|" in others


def test_families_keep_apart_what_has_the_same_words():
    records = [
        make("random", (0.2, 0.2), settings={"label_type": "hard"}),
        make("random", (0.3, 0.3), settings={"label_type": "hard", "teacher": {"weights": "a"}}),
        make("random", (0.4, 0.4), settings={"label_type": "soft"}),
    ]
    content = Declared(families={"selection": ("random",)}, board=(Page(name="f", title="F", style="families"),))
    (grid,) = boards(records, content)[-1].grids
    assert sorted(markdown.grid_table(grid).splitlines()[2:]) == [
        "|rded, hard labels|convnet-3|random|20.0±0.0|",
        "|rded, hard labels|convnet-3|random|30.0±0.0|",
        "|rded, soft labels|convnet-3|random|40.0±0.0|",
    ]


def test_one_protocol_and_network_is_shown_as_methods_by_budget():
    records = [make(method, (0.5,), ipc=ipc) for method in ("random", "vlcp") for ipc in (1, 10)]
    assert shown(records)[0] == "|Method|IPC 1|IPC 10|"
    assert page(records).grids[0].title == "rded, convnet-3"


def test_other_networks_of_a_protocol_are_a_grid_of_their_own():
    records = [make("random", (0.5,), network=network) for network in ("convnet-3", "mlp")]
    matrix, across, _ = page([*records, make("vlcp", (0.6,))]).grids
    assert [heading.name for heading in matrix.headings] == ["Method", "rded"] and len(matrix.rows) == 2
    assert across.title == "Cross-architecture: IPC 10, rded"
    assert markdown.grid_table(across).splitlines() == [
        "|Method|convnet-3|mlp|",
        "|---|---:|---:|",
        "|random|50.0|50.0|",
    ]


def test_more_settings_than_fit_beside_each_other_are_several_grids():
    records = [make("random", (0.5,), evaluator=f"e{n}") for n in range(10)]
    assert [len(grid.headings) for grid in page(records).grids[:2]] == [views.MOST + 1, 10 - views.MOST + 1]


def merged():
    """Three sets of every method under one protocol that two presets name, one with a learned rate, one single run."""
    lr = {"lr": 0.01}
    learned = {"settings": {"lr": "learned with the set"}, "metrics": [{"learning_rate": 0.02}]}
    values = {"random": (0.30, 0.32, 0.34), "dsa": (0.50, 0.51, 0.52), "dm": (0.49, 0.50, 0.52)}
    records = [
        make(method, (value,), seed=seed, settings=lr, preset="cpu+sane" if seed else "paper+sane")
        for method, own in values.items()
        for seed, value in enumerate(own)
    ]
    records += [make("mtt", (value,), seed=seed, **learned) for seed, value in enumerate((0.60, 0.62, 0.61))]
    return [*records, make("once", (0.9,), settings=lr)]


def test_a_merged_board_has_the_ranking_intervals_and_significance_worked_out_by_hand():
    table = only(merged())
    (row,) = table.rows
    cells = dict(zip(labels(table), row.cells, strict=True))
    assert [cells[name].runs for name in ("random", "dsa", "dm", "mtt", "once")] == ["3×1"] * 4 + ["1×1"]
    assert cells["dsa"].text == "51.0 ± 0.8"  # population deviation of 50, 51, 52
    # Student's t with two degrees of freedom: 4.3027 · s / √3, s = 1 for 50, 51, 52
    assert cells["dsa"].interval == pytest.approx((0.51 - 0.024841, 0.51 + 0.024841), abs=1e-5)
    assert {name: cell.rank for name, cell in cells.items()} == {"random": 0, "dm": 0, "dsa": 0, "mtt": 2, "once": 0}
    assert all(cell.versus_best is None for cell in cells.values())  # the best is a single run
    without = dict(zip(labels(only(merged()[:-1])), only(merged()[:-1]).rows[0].cells, strict=True))
    assert {name: cell.rank for name, cell in without.items()} == {"random": 0, "dm": 0, "dsa": 2, "mtt": 1}
    # scipy.stats.ttest_ind(…, equal_var=False): random 0.00022005, dsa 0.00025522, dm 0.00110321; then Holm's steps.
    corrected = {"random": 3 * 0.00022005, "dsa": 3 * 0.00022005, "dm": 0.00110321}
    assert {name: without[name].versus_best for name in corrected} == pytest.approx(corrected, rel=1e-3)
    assert without["mtt"].versus_best is None and not any(cell.tied for cell in without.values())
    gains = {name: cell.gain for name, cell in without.items()}
    assert gains == {
        "random": None,
        **{n: pytest.approx(g) for n, g in (("dsa", 0.19), ("dm", 0.55 / 3), ("mtt", 0.29))},
    }


def test_output_does_not_depend_on_the_order_of_records_and_names_no_folder():
    records = [make(m, (0.5, 0.6), seed=s, ipc=i) for m in ("random", "vlcp") for s in (0, 1) for i in (1, 10)]
    first = markdown.board(page(records))
    random.Random(0).shuffle(records)
    assert markdown.board(page(records)) == first
    assert first.startswith(markdown.MARK)
    assert first.endswith("\n") and "/tmp" not in first and "\n\n\n" not in first


def test_markup_in_names_is_escaped():
    text = markdown.board(page([make("a|b*c")], title="x_y"))
    assert "a\\|b\\*c" in text and "# x\\_y" in text


def test_csv_and_json():
    made = [page([make("random", (0.5, 0.6)), make("vlcp", (0.7,), explicit={"strength": 0.5})])]
    first, second = csv.DictReader(io.StringIO(data.to_csv(made)))
    assert (first["dataset"], first["mean"], first["runs"], first["sets"]) == ("digits", "0.550000", "2", "1")
    assert (second["method"], second["variant"], second["ci95_low"]) == ("vlcp", "vlcp (strength=0.5)", "")
    assert (second["gain"], second["note"]) == ("0.150000", "strength=0.5")
    costs = [second[name] for name in ("image_bytes", "label_bytes", "distill_seconds", "seconds_per_image")]
    assert costs == ["5000", "160", "1", "0.05"]  # 20 images in one second
    unknown = make("random", (0.5,))
    unknown = unknown.model_copy(update={"costs": unknown.costs.model_copy(update={"distill_seconds": None})})
    (line,) = csv.DictReader(io.StringIO(data.to_csv([page([unknown])])))
    assert line["distill_seconds"] == line["seconds_per_image"] == ""
    content = json.loads(data.to_json(made))
    assert content[0]["tables"][0]["rows"][0]["cells"][0]["groups"] == [[0.5, 0.6]]


def test_costs_are_per_method_and_budget():
    (grid,) = views.costs(only([make("vlcp", (0.6, 0.7), shrunk=[("method.steps", 9, 3)]), make("full", ipc=None)]))
    assert grid.texts() == [["10", "vlcp", "0.05", "0.00", "5.0", "0.2", "2.0"]] and grid.notes == ("a: 3 of 9 steps.",)


def test_accuracies_by_class_come_from_which_images_were_right():
    records = [
        make("vlcp", (0.5, 0.75)),
        make("random", (0.25,)),
        make("vlcp", (0.5,), dataset=dataset_facts("b", "b" * 64)),
    ]
    labels = np.repeat([0, 1], 100)  # `make` has the first ones right: 100 of 200, 1…150 with one shifted, and 50
    (grid,) = classes.grids(records, LAYOUT, {"f1" * 32: labels})
    assert grid.heads() == ["Class", "random", "vlcp"]
    assert grid.texts() == [["zero", "50.0", "99.5 ± 0.5"], ["one", "0.0", "25.5 ± 25.5"]]


def test_a_default_that_changed_is_another_variant_by_class_and_beside_a_reference():
    records = [make("vlcp", (value,), options={"steps": steps}) for value, steps in ((0.5, 3), (0.25, 4))]
    (grid,) = classes.grids(records, LAYOUT, {"f1" * 32: np.repeat([0, 1], 100)})
    assert grid.heads() == ["Class", "vlcp (steps=3)", "vlcp (steps=4)"]
    lines = variants.grid([*records, make("random", (0.3,))], Layout(names={"vlcp": "VLCP"}), "").texts()
    assert [[line[2], line[3]] for line in lines] == [
        ["random", "30.0"],
        ["VLCP (steps=3)", "50.0"],
        ["VLCP (steps=4)", "25.0"],
    ]


def test_the_terminal_shows_the_same_numbers_uncut(capsys):
    terminal.show(page([make(f"a-method-with-a-long-name-{n}", (0.5, 0.6)) for n in range(12)]))
    out = capsys.readouterr().out
    assert out.count("55.0 ± 5.0") == 12
    assert "a-method-with-a-long-name-11" in out


def write(folder, records):
    return pages.write(folder, pages.render(boards(records, declared(folder))))


def test_pages_are_written_once_checked_and_removed_when_stale(tmp_path):
    records = [make("random"), make("random", dataset=dataset_facts("folder:cats"))]
    assert write(tmp_path, records) == ["README.md", "digits.md", "folder-cats.md", "long.csv"]
    assert write(tmp_path, records) == []
    rendered = pages.render(boards(records[:1], declared(tmp_path)))
    assert pages.changes(tmp_path, rendered) == [
        "README.md is out of date",
        "long.csv is out of date",
        "folder-cats.md is no longer made from any record",
    ]
    (tmp_path / "own.md").write_text("mine")
    write(tmp_path, records[:1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "digits.md", "long.csv", "own.md"]


def test_a_file_of_the_user_is_never_replaced(tmp_path):
    (tmp_path / "digits.md").write_text("my notes")
    with pytest.raises(UsageError, match="not written by ddbench"):
        write(tmp_path, [make("random")])
    assert (tmp_path / "digits.md").read_text() == "my notes"


def test_a_table_of_the_user_is_never_replaced(tmp_path):
    (tmp_path / "long.csv").write_text("mine,yours\n")
    with pytest.raises(UsageError, match=r"long\.csv was not written by ddbench"):
        write(tmp_path, [make("random")])


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
    (tmp_path / "boards.toml").write_text('[columns]\napart = "rd3"\n')
    with pytest.raises(UsageError, match=r"columns\.apart: write a list"):
        declared(tmp_path)


def test_evaluators_apart_leave_a_page_for_their_board_and_are_never_on_none(tmp_path):
    (tmp_path / "boards.toml").write_text(
        '[columns]\napart = ["rd3", "g-vbsm"]\n'
        '[[board]]\nname = "regimes"\ntitle = "Regimes"\nevaluator = ["rd3"]\ndataset = ["digits"]\n'
        '[[board]]\nname = "all"\ntitle = "All"\nmethod = ["random"]\n'
    )
    cats = dataset_facts("folder:cats")
    records = [make("random"), *(make("random", evaluator=name) for name in ("rd3", "g-vbsm"))]
    records += [make("random", evaluator="rd3", dataset=data) for data in (cats, dataset_facts("cifar10"))]
    content = declared(tmp_path)

    def shown(board):
        return sorted({row.name for table in board.tables for row in table.rows})

    found = {board.name: shown(board) for board in boards(records, content)}
    assert found["digits"] == ["g-vbsm", "rded"]  # no board is that of g-vbsm
    assert found["regimes"] == ["rd3"] and found["folder-cats"] == ["rd3"]
    alone = {board.name: shown(board) for board in boards([make("random", evaluator="rd3")], content)}
    assert alone == {"regimes": ["rd3"], "all": ["rd3"]}


def many(method, values, sets=3, **how):
    return [make(method, values, seed=seed, **how) for seed in range(sets)]


def test_methods_that_a_test_does_not_tell_from_the_best_are_marked():
    def spread(method, centre):
        return [make(method, (centre + 0.01 * seed, centre), seed=seed) for seed in range(3)]

    table = only(spread("a", 0.70) + spread("b", 0.705) + spread("c", 0.5) + [make("d", (0.6,))])
    a, b, c, d = table.rows[0].cells
    assert (a.tied, b.tied, c.tied, d.tied) == (True, False, False, False)
    assert b.rank == 1 and a.rank == 2 and d.versus_best is None
    text = markdown.board(page(spread("a", 0.70) + spread("b", 0.705)))
    assert "<sup>≈</sup>|" in text and "≈ not distinguishable" in text


def test_significant_gains_are_in_the_data():
    table = only([r for m, v in (("random", 0.5), ("vlcp", 0.6)) for r in many(m, (v, v + 0.005))])
    assert table.rows[0].cells[0].gain_p is None and table.rows[0].cells[1].gain_p < 0.05


def test_names_from_plugins_and_files_are_harmless_everywhere():
    record = make("<script>alert(1)</script>", (0.5,), dataset=dataset_facts("a\\b_{c}%$#&~^"))
    board = page([record], title="<b>T</b>")
    assert "<script" not in html.board_html(board) and "&lt;script&gt;" in html.board_html(board)
    assert "<script" not in markdown.board(board).replace("\\<script", "")
    assert r"\textbackslash{}b\_\{c\}\%\$\#\&\textasciitilde{}\textasciicircum{}" in latex.board(board)


def test_latex_splits_a_table_that_is_higher_than_a_page():
    rows = tuple((Shown(f"row {row}"),) for row in range(2 * latex.ROWS + 1))
    text = latex.board(Board("name", "Title", grids=(Grid("Many", (Heading("Method"),), rows, ("A note.",)),)))
    captions = [line for line in text.splitlines() if line.startswith(r"\caption")]
    assert captions == [r"\caption{Many}", *[r"\caption{Many (continued)}"] * 2]
    assert [part.count("row ") for part in text.split(r"\begin{tabular}")[1:]] == [latex.ROWS, latex.ROWS, 1]
    assert text.count("A note.") == 1 and text.count(r"\midrule") == 3


def test_latex_holds_all_that_is_said_below_the_tables_of_a_page():
    extra = {"acceptance": {"recognised": 0.9}}
    found = [make("vlcp", (0.5, 0.6), shrunk=[("method.backbone", "sd", "small")], extra=extra), make("random")]
    board = measured(found, [Layout(signs={("method.backbone", "small"): "†"})], title="T", signs={"†": "† small."})
    text = latex.board(board)
    assert "† small." in board.grids[-1].notes and "caption{Acceptance figures}" in text
    assert all(latex.escape(note) in text for grid in board.grids for note in grid.notes)


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
    assert [table.metric for table in board.tables] == ["lrs", "hlr"]
    assert all(labels(table) == ["random", "vlcp"] for table in board.tables)
    first, second = board.tables
    assert [cell.rank for cell in first.rows[0].cells] == [1, 1]
    assert [(cell.text, cell.rank) for cell in second.rows[0].cells] == [("45.0 ± 5.0", 0), ("20.5 ± 0.5", 1)]
    assert second.rows[0].cells[0].versus_best is not None and second.rows[0].cells[1].versus_best is None
    titles = [grid.title for grid in board.grids if not grid.folded]
    assert titles == [
        f"{name}, {better} is better: IPC 10, convnet-3" for name, better in (("lrs", "higher"), ("hlr", "lower"))
    ]
    assert Page(name="own", title="Own", metric="last").metric == ("last",)


def test_claims_stand_beside_and_never_among_measured_numbers():
    claim = Claim("digits", 10, "vlcp", "rded", "convnet-3", "soft", "top1", "61.0", "", "own", "paper", "T1", "")
    content = Declared(claims=Claims(kind=("own",)))
    claims = Published((claim, replace(claim, kind="other", table="T2"), replace(claim, evaluator="idc")))
    (board,) = boards([make("vlcp", (0.6,))], content, claims=claims)
    claimed = board.grids[-1]
    assert claimed.title.startswith("Claimed") and claimed.folded
    assert claimed.texts() == [["rded", "vlcp", "convnet-3", "61.0", "paper"]]
    assert "0.61" not in data.to_csv([board])


def test_a_data_set_named_like_a_page_takes_another_name():
    names = ["readme", "Table9", "a/b", "a-b"]
    found = [make(dataset=dataset_facts(name, f"{number}" * 64)) for number, name in enumerate(names)]
    declared = Declared(board=(Page(name="table9", title="Table 9", dataset=("a-b",)),))
    assert [board.name for board in boards(found, declared)] == ["Table9-2", "a-b", "a-b-2", "readme-2", "table9"]
