"""What counts as one network and as one experiment, wherever rows are made of records."""

import pytest
from records import make

from ddbench.results import schema as records
from ddbench.results.runs import by_set, same_images, unified
from ddbench.site import rows
from ddbench.tables import boards, comparing, leaderboard, variants
from ddbench.tables.declared import Declared, Page
from ddbench.tables.leaderboard import Layout


def only_cell(records):
    (table,) = leaderboard.build(records)
    (row,) = table.rows
    (cell,) = row.cells
    return table, cell


def same_set(*seeds, values=(0.5,), **more):
    """Return records whose seeds all came to the same images."""
    first = make("k-means", values, seed=seeds[0], **more)
    return [
        first,
        *(
            make("k-means", values, seed=seed, **more).model_copy(update={"distilled": first.distilled})
            for seed in seeds[1:]
        ),
    ]


def test_seeds_with_the_same_images_are_one_network_without_a_deviation():
    table, cell = only_cell(same_set(0, 1, 2))
    assert (cell.runs, cell.text, cell.std, cell.interval) == ("1×1", "50.0", None, None)
    assert "k-means, IPC 10: seeds 0, 1, 2 gave the same images, whose networks count once." in table.notes


def test_repeats_of_the_same_images_count_once_each_and_the_longer_record_adds_its_own():
    first = make("k-means", (0.5, 0.6))
    longer = make("k-means", (0.5, 0.6, 0.7), seed=1).model_copy(update={"distilled": first.distilled})
    _, cell = only_cell([first, longer])
    assert cell.runs == "1×3" and cell.values == (0.5, 0.6, 0.7)


def test_other_evaluation_seeds_train_other_networks():
    first = make("k-means", (0.5,))
    other = make("k-means", (0.6,), evaluation_seed=1).model_copy(update={"distilled": first.distilled})
    _, cell = only_cell([first, other])
    assert cell.runs == "1×2" and cell.text == "55.0 ± 5.0"


def test_networks_that_agree_by_chance_keep_their_deviation():
    _, cell = only_cell([make("random", (0.5, 0.5, 0.5))])
    assert (cell.runs, cell.text) == ("1×3", "50.0 ± 0.0")


@pytest.mark.parametrize("other_seed", [False, True])
def test_an_evaluator_that_draws_nothing_has_one_network(other_seed):
    """Repeats, and evaluation seeds, that answer every test image alike are no further networks."""
    once = make("random", (0.7,))
    result = once.result.model_copy(
        update={name: getattr(once.result, name) * 3 for name in ("values", "last", "best", "correct", "curves")}
    )
    records = [once.model_copy(update={"result": result})]
    if other_seed:
        records.append(make("random", (0.7,), evaluation_seed=1).model_copy(update={"distilled": once.distilled}))
    _, cell = only_cell(records)
    assert (cell.runs, cell.text) == ("1×1", "70.0")
    assert [row.entry.runs for row in rows.rows(records[:1], "random")] == ["1×1"]


def test_networks_that_all_name_one_class_or_are_all_right_are_still_several():
    for value in (0.5, 1.0):
        once = make("random", (value,))
        changed = {name: getattr(once.result, name) * 2 for name in ("values", "last", "best", "correct", "curves")}
        _, cell = only_cell([once.model_copy(update={"result": once.result.model_copy(update=changed)})])
        assert cell.runs == "1×2"


def test_two_methods_with_the_same_images_are_named():
    first = make("typo-autors", (0.5,))
    second = make("typo-authors", (0.5,)).model_copy(update={"distilled": first.distilled})
    (table,) = leaderboard.build([first, second])
    assert [cell.text for cell in table.rows[0].cells] == ["50.0", "50.0"]
    assert "typo-authors and typo-autors are the same images at IPC 10." in table.notes


def test_the_same_networks_count_once_in_every_table():
    records = same_set(0, 1, 2, values=(0.5, 0.6))
    (line,) = variants.grid(records, Layout(), "").texts()
    assert "1×2" in line
    (row,) = rows.rows(records, "random")
    assert row.entry.runs == "1×2" and len(row.records) == 3
    (setting,) = comparing.of_methods([*records, make("random", (0.4, 0.5))], "k-means", "random").settings
    assert setting.first.runs == "1×2" and setting.over_runs.n == (2, 2)
    assert setting.over_images.n == (2, 2)


def test_a_board_that_asks_for_seeds_counts_distilled_sets():
    page = Page(name="three", title="Three", minimum_seeds=3)
    found = boards.boards(same_set(0, 1, 2), Declared(board=(page,)))
    assert [each.name for each in found] == ["digits"]


@pytest.mark.parametrize(
    "second",
    [
        {"preset": "paper+sane"},
        {"preset": "paper+sane", "eval_explicit": {"epochs": 300}},
        {"explicit": {"steps": 3}},
    ],
)
def test_one_experiment_under_two_presets_is_one_row_everywhere(second):
    options = {"options": {"steps": 3}}
    one = make("random", (0.5,), seed=0, **options)
    two = make("random", (0.6,), seed=1, **options | second)
    if "eval_explicit" in second:  # what the preset says, set by hand
        evaluator = one.cell.evaluator.model_copy(update={"options": {"epochs": 300}})
        one = one.model_copy(update={"cell": one.cell.model_copy(update={"evaluator": evaluator})})
    for order in ([one, two], [two, one]):
        _, cell = only_cell(order)
        assert (cell.runs, cell.text) == ("2×1", "55.0 ± 5.0")
        assert len(variants.grid(order, Layout(), "").rows) == 1
        assert len(rows.rows(order, "random")) == 1
        page = Page(name="two", title="Two", minimum_seeds=2)
        assert any(each.name == "two" for each in boards.boards(order, Declared(board=(page,))))


def test_other_options_under_the_same_name_stay_another_experiment():
    records = [make("random", options={"steps": 3}), make("random", preset="paper+sane", options={"steps": 4}, seed=1)]
    (table,) = leaderboard.build(records)
    assert [column.label for column in table.columns] == ["random (steps=3)", "random (steps=4)"]
    assert len(table.rows) == 1 and unified(records) == records


def test_an_experiment_stands_under_the_preset_of_its_rivals():
    records = [
        make("random", (0.5,), seed=0),
        make("random", (0.5,), seed=1, preset="paper+sane"),
        make("idc", (0.6,), preset="paper+sane"),
    ]
    (table,) = leaderboard.build(records, Layout(gain_over="random"))
    assert [cell.runs for cell in table.rows[0].cells] == ["1×1", "2×1"] and len(table.rows) == 1


def test_a_learned_rate_belongs_to_the_set_and_not_to_the_protocol():
    rates = [{"learning_rate": 0.0123}] * 2
    learned = make("mtt", (0.6, 0.6), settings={"lr": "learned with the set"}, metrics=rates)
    fixed = make("dc", (0.5, 0.5), settings={"lr": 0.01})
    (table,) = leaderboard.build([learned, fixed], Layout(gain_over="dc"))
    (row,) = table.rows
    assert row.protocol == fixed.protocol.digest and [cell.rank for cell in row.cells] == [0, 1]
    assert row.cells[1].note == "learned learning rate 0.0123"
    (setting,) = comparing.of_methods([learned, fixed], "mtt", "dc").settings
    assert setting.over_runs.effect == pytest.approx(0.1)
    (setting,) = comparing.of_records(learned, fixed, ("mtt", "dc")).settings
    assert setting.over_runs.effect == pytest.approx(0.1)
    assert [cell.gain for cell in row.cells] == [None, pytest.approx(0.1)]


def test_labels_that_a_set_stores_belong_to_it_as_well():
    stored = make("kip", (0.6,), settings={"label_type": "learned with the set"})
    (table,) = leaderboard.build([stored, make("dc", (0.5,))])
    assert len(table.rows) == 1


def test_a_learned_rate_does_not_hide_another_difference():
    learned = make("mtt", settings={"lr": "learned with the set", "epochs": 100})
    fixed = make("dc", settings={"lr": 0.01})
    (table,) = leaderboard.build([learned, fixed])
    assert len({row.protocol for row in table.rows}) == 2


def test_values_by_set_and_names_by_images():
    records = same_set(0, 1)
    assert by_set(records, lambda record: record.result.last) == {records[0].distilled.digest: [0.5]}
    assert same_images((record.cell.seed, record) for record in records) == [[0, 1]]
    assert same_images((0, record) for record in records) == []


def test_text_of_one_and_of_several():
    assert records.spread_text(0.364, None) == "36.4"
    assert records.spread_text(0.364, 0.0) == "36.4 ± 0.0"


def test_the_same_networks_on_two_machines_count_once_and_a_note_says_so():
    first = make("random", (0.6,))
    other = make("random", (0.7,)).model_copy(update={"environment": {"device": "cuda", "precision": "bf16"}})
    other = other.model_copy(update={"key": "f" * 64})
    table, cell = only_cell([other, first])
    assert (cell.runs, cell.text) == ("1×1", "60.0")
    assert "random, IPC 10, seed 0: measured on cpu fp32 and on cuda bf16; the first counts." in table.notes
