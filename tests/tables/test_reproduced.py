from dataclasses import replace

import pytest
from records import dataset_facts, make

from ddbench.results.claims import Aliases, Claim, EvaluatorAlias, NetworkAlias
from ddbench.tables import boards, reproduced
from ddbench.tables.declared import Declared, Page
from ddbench.tables.formats import markdown

CLAIM = Claim(
    "digits", 10, "vlcp", "rded", "convnet-3", "soft", "top1", "60.0", "0.5", "own", "paper2025", "Table 1", ""
)


def verdicts(records, claims=(CLAIM,), aliases=None):
    return [pair.verdict for pair in reproduced.pairs(records, claims, aliases)]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.60, 0.605, 0.595), "reproduced"),
        ((0.61, 0.61, 0.61), "reproduced"),
        ((0.65, 0.65, 0.65), "higher"),
        ((0.55, 0.55, 0.555), "lower"),
        ((0.60, 0.60), "too few runs"),
    ],
)
def test_the_verdict_follows_the_rule(values, verdict):
    assert verdicts([make("vlcp", values)]) == [verdict]


def test_nothing_is_judged_that_was_shrunk_changed_or_not_stated():
    values = (0.6, 0.6, 0.6)
    assert verdicts([make("vlcp", values, shrunk=[("eval.epochs", 300, 40)])]) == ["scaled down"]
    assert verdicts([make("vlcp", values, explicit={"strength": 0.5})]) == ["other options"]
    assert verdicts([make("vlcp", values)], [replace(CLAIM, evaluator="unknown")]) == ["protocol not stated"]


def test_extensions_and_other_cells_never_match():
    values = (0.6, 0.6, 0.6)
    others = [
        make("vlcp", values, extension="no published settings"),
        make("vlcp", values, ipc=1),
        make("vlcp", values, evaluator="minimax"),
        make("vlcp", values, network="resnet-18"),
        make("vlcp", values, settings={"label_type": "hard"}),
        make("vlcp", values, dataset=dataset_facts("cifar10")),
        make("random", values),
    ]
    assert verdicts(others) == []
    assert verdicts([make("vlcp", values)], [replace(CLAIM, metric="ior")]) == []


def test_seeds_are_pooled_and_presets_kept_apart():
    pairs = reproduced.pairs(
        [make("vlcp", (0.6,), seed=s) for s in range(3)] + [make("vlcp", preset="paper", options={"steps": 50})],
        [CLAIM],
    )
    assert sorted(pair.ours.runs for pair in pairs) == ["1×1", "3×1"]


def test_aliases_join_names():
    names = Aliases(
        network=(NetworkAlias(published="conv3", ddbench="convnet-3", evaluator=("dsa",)),),
        evaluator=(EvaluatorAlias(published="dsa", ddbench="dc", options={"augment": "dsa"}),),
    )
    claim = replace(CLAIM, evaluator="dsa", network="conv3")
    record = make("vlcp", (0.6, 0.6, 0.6), evaluator="dc", eval_explicit={"augment": "dsa"})
    assert verdicts([record], [claim], names) == ["reproduced"]
    assert verdicts([make("vlcp", (0.6,), evaluator="dc")], [claim], names) == []


def test_the_board_says_rule_source_and_difference():
    content = Declared(board=(Page(name="reproduced", title="Claimed versus reproduced", style="reproduced"),))
    claims = boards.Published((CLAIM,))
    record = make("vlcp", (0.65, 0.65, 0.65), shrunk=[("method.steps", 1000, 50)])
    (board,) = boards.boards([record], content, only="reproduced", claims=claims)
    text = markdown.board(board)
    assert "| paper2025, Table 1 | own | 60.0 | 0.5 | 65.0 | 0.0 | 1×3 | +5.0 | scaled down |" in text
    assert "method.steps 1000 → 50" in text and "no verdict" in text
