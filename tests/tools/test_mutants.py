"""The sampler of mutants: what it changes, and that it puts back what it changed."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "mutants.py"))
SOURCE = '''
def total(items: list[int], limit: int = 3) -> int:
    """Not this text."""
    if not items:
        raise ValueError("nor 1 of these")
    found = sum(item * limit for item in items if item > 0)
    note(found, level=2)
    return {"found": found, **items[limit]}
'''


def made(source=SOURCE):
    return [(about["kind"], about["old"], about["new"]) for about, _ in TOOL["mutants"](source)]


@pytest.mark.parametrize(
    "mutant",
    [
        ("number", "3", "4"),
        ("number", "3", "2"),
        ("sign", "not items", "items"),
        ("statement", "raise ValueError('nor 1 of these')", "pass"),
        ("arithmetic", "item * limit", "item / limit"),
        ("operand", "item * limit", "item"),
        ("comparison", "item > 0", "item >= 0"),
        ("filter", " for item in items if item > 0", " for item in items"),
        ("argument level", "note(found, level=2)", "note(found)"),
        ("statement", "note(found, level=2)", "pass"),
        ("entry 'found'", "{'found': found, **items[limit]}", "{**items[limit]}"),
        ("index", "items[limit]", "items[0]"),
        ("return", "return {'found': found, **items[limit]}", "return None"),
    ],
)
def test_one_thing_is_changed_at_a_time(mutant):
    assert mutant in made()


def test_words_and_types_are_left_alone():
    assert not any("list[int]" in old or old == "1" for _, old, _ in made())
    assert made("if TYPE_CHECKING:\n    x = 1 + 1") == []


def test_each_mutant_is_the_whole_module_with_that_change_only():
    whole = ast.unparse(ast.parse(SOURCE))
    texts = [written() for _, written in TOOL["mutants"](SOURCE)]
    assert whole not in texts and len(set(texts)) == len(texts)
    assert [written() for _, written in TOOL["mutants"](SOURCE)] == texts
    assert len(texts) == len({tuple(about.values()) for about, _ in TOOL["mutants"](SOURCE)})


def test_every_test_that_is_named_exists():
    for path, names in TOOL["ALSO"].items():
        assert (ROOT / path).exists() and all((ROOT / "tests" / name).exists() for name in names.split())


def test_the_tests_of_a_module_begin_with_its_own():
    found = TOOL["tests_of"]("ddbench/tables/stats.py", ROOT)
    assert found[0].endswith("tests/tables/test_stats.py") and found[1].endswith("tests/tables/test_compare.py")
    found = TOOL["tests_of"]("plugins/ddbench_plugins/training/losses.py", ROOT)
    assert [str(ROOT / "tests" / "training" / "test_schedules_and_losses.py")] == found[:1]
