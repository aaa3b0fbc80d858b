"""Claimed versus reproduced: what is compared, with what, and what is said of it."""

from dataclasses import replace

import pytest
from records import dataset_facts, make

from ddbench.results.claims import (
    About,
    Aliases,
    Claim,
    Established,
    EvaluatorAlias,
    Experiment,
    NetworkAlias,
    Own,
    Rests,
)
from ddbench.tables import boards, paper, reproduced
from ddbench.tables.declared import Declared, Page
from ddbench.tables.formats import markdown
from ddbench.tables.leaderboard import Layout
from ddbench.tables.notes import change_text

CLAIM = Claim(
    "digits", 10, "vlcp", "rded", "convnet-3", "soft", "top1", "60.0", "0.5", "own", "paper2025", "Table 1", ""
)
VALUES = (0.6, 0.6, 0.6)


def verdicts(records, claims=(CLAIM,), aliases=None):
    return [pair.verdict for pair in reproduced.pairs(records, claims, aliases)]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.60, 0.605, 0.595), "agrees"),
        ((0.61, 0.61, 0.61), "agrees"),  # one point, and twice the claim's deviation
        ((0.65, 0.65, 0.65), "differs"),
        ((0.55, 0.55, 0.555), "differs"),
        ((0.60, 0.60), "scaled down: 2 of 3 networks"),
    ],
)
def test_the_verdict_follows_the_rule(values, verdict):
    assert verdicts([make("vlcp", values)]) == [verdict]


def test_ours_counts_when_sets_times_repeats_reach_what_the_claim_rests_on():
    names = Aliases(rests=(Rests(source=("paper2025",), method=("vlcp",), networks=6, why="README"),))
    sets = [make("vlcp", VALUES, seed=seed) for seed in range(2)]
    assert verdicts(sets, aliases=names) == ["agrees"]
    assert verdicts(sets[:1], aliases=names) == ["scaled down: 3 of 6 networks"]
    other = replace(CLAIM, source="other2025")
    assert verdicts(sets[:1], [other], names) == ["agrees"]
    assert verdicts(sets[:1], [other, CLAIM], names) == ["scaled down: 3 of 6 networks"]  # one source says it


def test_what_was_scaled_down_is_named_and_what_only_names_the_protocol_is_not():
    shrunk = [("method.iterations", 1000, 400), ("method.lr", 0.005, 0.05), ("eval.augment", "auto", "dsa")]
    (pair,) = reproduced.pairs([make("vlcp", (0.5,) * 3, shrunk=shrunk)], [CLAIM])
    assert pair.verdict == "scaled down: 400 of 1000 iterations" and pair.remark == "lr 0.05 instead of 0.005"
    assert verdicts([make("vlcp", VALUES, eval_explicit={"augment": "dsa"}, shrunk=shrunk[2:])]) == ["agrees"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("method.iterations", 1000, 400), "400 of 1000 iterations"),
        (("method.batch_size", 64, 8), "batch_size 8 instead of 64"),  # no number of things
        (("evaluator.teacher", "resnet-18", ""), "teacher (empty) instead of resnet-18"),
        (("method.epochs", 50, 0), "epochs 0 instead of 50"),  # often: as many as needed
        (("method.weights", 50, True), "weights yes instead of 50"),
        (("method.size", 256, None), "no fixed size instead of 256"),
        (("method.size", None, 64), "size set to 64"),
    ],
)
def test_an_option_below_paper_scale_reads_as_a_sentence(change, text):
    assert change_text(*change) == text


def test_cells_go_by_the_networks_own_name_and_sources_are_cited_below():
    names = Aliases(network=(NetworkAlias(published="convnet", ddbench="convnet-3"),))
    matched = reproduced.pairs([make("vlcp", VALUES)], [replace(CLAIM, network="convnet")], names)
    layout = Layout(names={"convnet": "wrong", "convnet-3": "ConvNet-3"}, aliases=names)
    made = reproduced.grid(matched, "", layout, {"paper2025": "A. Author, VLCP", "other": "not shown"})
    assert made.cells()[0][0].text == "vlcp, digits, IPC 10, ConvNet-3, rded protocol"
    assert made.notes[-1] == "paper2025: A. Author, VLCP."


def test_sources_that_print_the_same_numbers_share_a_line_of_the_claims():
    claims = [CLAIM, replace(CLAIM, source="other2025"), replace(CLAIM, source="third2025", mean="61.0")]
    claims += [replace(CLAIM, table="Table 2", mean="62.0"), replace(CLAIM, table="Table 2", ipc=50, mean="70.0")]
    rows = [row[-3:] for row in paper.listing(claims, Layout()).texts()]
    assert rows == [
        ["60.0 ± 0.5", "", "paper2025, other2025"],
        ["62.0 ± 0.5", "70.0 ± 0.5", "paper2025"],
        ["61.0 ± 0.5", "", "third2025"],
    ]


def test_what_the_claims_source_sets_itself_is_not_scaled_down_and_official_records_count_first():
    shrunk = [("method.network", "modified-resnet-18", "convnet-3"), ("method.normalisation", "imagenet", "dataset")]
    sane = make("vlcp", (0.62,) * 3, shrunk=shrunk[:1])
    official = make("vlcp", VALUES, options={"quirk": 1}, preset="cpu+official", shrunk=shrunk)
    own = Own(source=("paper2025",), options=("method.network", "method.normalisation"), why="scripts/conv3.sh")
    (pair,) = reproduced.pairs([sane, official], [CLAIM], Aliases(own=(own,)))
    assert (pair.verdict, pair.ours.mean) == ("agrees", pytest.approx(0.6))
    other = replace(CLAIM, source="other2025")
    assert verdicts([sane, official], [other], Aliases(own=(own,)))[0].startswith("scaled down: network convnet-3")


def test_a_protocol_with_a_name_of_its_own_is_compared_where_it_is_known_to_be_another():
    claim = replace(CLAIM, evaluator="dm", method="random")
    records = [make("random", VALUES, evaluator="dc")]
    assert verdicts(records, [claim]) == []
    assert verdicts(records, [claim], Aliases(established=(Established(evaluator=("dm",), protocol="dc", why="code"),)))


def test_an_experiment_with_other_words_is_compared_with_the_one_of_its_options():
    claim = replace(CLAIM, method="kip-fc", evaluator="krr", network="kernel-fc", label_type="hard", mean="46.7")
    real = {"settings": {"label_type": "real"}, "evaluator": "krr", "network": "none"}
    records = [
        make("kip", (0.6,), explicit={"learn_labels": True}, **real),
        make("kip", (0.467,), explicit={"learn_labels": False}, **real),
    ]
    assert verdicts(records, [claim]) == []
    words = {"method": "kip", "network": "none", "label_type": "real"}
    known = Experiment(
        evaluator=("krr",), label_type=("hard",), ddbench=words, options={"learn_labels": False}, why="KIP.ipynb"
    )
    names = Aliases(experiment=(known,), rests=(Rests(networks=1, why="one seed"),))
    (pair,) = reproduced.pairs(records, [claim], names)
    assert (pair.verdict, pair.claim.method, pair.ours.mean, pair.known) == ("agrees", "kip-fc", 0.467, "KIP.ipynb")
    assert reproduced.pairs(records, [replace(claim, label_type="soft")], names) == []


def test_a_difference_is_explained_or_called_unexplained():
    records = [make("vlcp", (0.7,) * 3)]
    (pair,) = reproduced.pairs(records, [CLAIM])
    assert (pair.verdict, pair.remark) == ("differs", "unexplained")
    names = Aliases(explained=(About(source=("paper2025",), ipc=(10,), why="the paper tests on another split"),))
    (pair,) = reproduced.pairs(records, [CLAIM], names)
    assert pair.remark == "the paper tests on another split"


def test_extensions_references_and_other_cells_never_match():
    others = [
        make("vlcp", VALUES, extension="no published settings"),
        make("vlcp", VALUES, ipc=1),
        make("vlcp", VALUES, evaluator="minimax"),
        make("vlcp", VALUES, network="resnet-18"),
        make("vlcp", VALUES, settings={"label_type": "hard"}),
        make("vlcp", VALUES, dataset=dataset_facts("cifar10")),
        make("random", VALUES),
    ]
    assert verdicts(others) == []
    assert verdicts([make("vlcp", VALUES)], [replace(CLAIM, metric="ior")]) == []
    whole = replace(CLAIM, method="full", ipc=None, kind="full")
    assert verdicts([make("full", VALUES, ipc=None)], [whole]) == []


def test_a_baseline_without_a_protocol_is_compared_only_where_that_is_known():
    claim = replace(CLAIM, method="random", evaluator="unknown", kind="baseline")
    records = [make("random", VALUES), make("random", (0.7,) * 3, evaluator="dc")]
    assert verdicts(records, [claim]) == []
    names = Aliases(established=(Established(source=("paper2025",), protocol="dc", why="it quotes DC's Table 1"),))
    (pair,) = reproduced.pairs(records, [claim], names)
    assert (pair.verdict, pair.known, pair.claim.evaluator) == ("differs", "it quotes DC's Table 1", "dc")


def test_one_number_is_one_line_with_its_witnesses_and_the_own_claim_first():
    quoted = replace(CLAIM, kind="other", source="quote2026", std="0.4")
    own = replace(CLAIM, std="")
    rerun = replace(CLAIM, kind="third-party", source="rerun2026", mean="57.0")
    baseline = replace(CLAIM, method="random", kind="baseline", mean="50.0")
    records = [make("vlcp", VALUES), make("random", VALUES)]
    pairs = reproduced.pairs(records, [baseline, rerun, quoted, own])
    lines = [row[1:3] for row in reproduced.grid(pairs, "", Layout(first=("random",))).texts()]
    assert lines == [
        ["paper2025, Table 1; also in quote2026", "60.0 ± 0.4"],
        ["paper2025, Table 1", "50.0 ± 0.5"],
        ["rerun2026, Table 1", "57.0 ± 0.5"],
    ]


def test_more_decimals_are_the_same_number():
    precise = replace(CLAIM, mean="60.04", kind="benchmark", source="bench2022")
    other = replace(CLAIM, mean="60.1", kind="benchmark", source="bench2023")
    pairs = reproduced.pairs([make("vlcp", VALUES)], [CLAIM, precise, other])
    assert [(pair.claim.mean, len(pair.sources)) for pair in pairs] == [("60.0", 2), ("60.1", 1)]


def test_seeds_are_pooled_and_of_several_experiments_the_one_nearest_to_the_paper_counts():
    sets = [make("vlcp", (0.6,), seed=seed) for seed in range(3)]
    small = make("vlcp", VALUES, options={"steps": 50}, shrunk=[("method.steps", 1000, 50)])
    official = [make("vlcp", (0.61,), seed=seed, options={"quirk": 1}, preset="cpu+official") for seed in range(3)]
    assert [pair.ours.runs for pair in reproduced.pairs([small, *sets], [CLAIM])] == ["3×1"]
    assert [pair.ours.mean for pair in reproduced.pairs([*sets, *official], [CLAIM])] == [pytest.approx(0.61)]


def test_aliases_join_names():
    names = Aliases(
        network=(NetworkAlias(published="conv3", ddbench="convnet-3", evaluator=("dsa",)),),
        evaluator=(EvaluatorAlias(published="dsa", ddbench="dc", options={"augment": "dsa"}),),
    )
    claim = replace(CLAIM, evaluator="dsa", network="conv3")
    assert verdicts([make("vlcp", VALUES, evaluator="dc", eval_explicit={"augment": "dsa"})], [claim], names) == [
        "agrees"
    ]
    assert verdicts([make("vlcp", VALUES, evaluator="dc")], [claim], names) == []


def test_the_board_counts_verdicts_and_says_the_rule():
    content = Declared(board=(Page(name="reproduced", title="Claimed versus reproduced", style="reproduced"),))
    claims = boards.Published((CLAIM, replace(CLAIM, method="random", kind="baseline")))
    records = [make("vlcp", (0.65,) * 3, shrunk=[("method.steps", 1000, 50)]), make("random", VALUES)]
    (board,) = boards.boards(records, content, only="reproduced", claims=claims)
    text = markdown.board(board)
    assert "1 agree, 0 differ, 1 scaled down." in text and "rests on (3 where" in text.replace("\\", "")
    line = "|paper2025, Table 1|60.0±0.5|65.0±0.0|+5.0|1×3|scaled down: 50 of 1000 steps||"
    assert f"|vlcp, digits, IPC 10, convnet-3, rded protocol{line}" in text
