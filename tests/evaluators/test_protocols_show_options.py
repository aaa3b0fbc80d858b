"""No option of any registered evaluator can change without the protocol's digest changing: results never mix.

Every evaluator is walked, so a new one is covered as soon as it is registered. What an option's values look like is
read from its type and bounds; options of text need a line in ``TEXTS``.
"""

from __future__ import annotations

import types
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
from ddbench_plugins.teachers import recipes
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from records import make

import ddbench
from ddbench.errors import DDBenchError
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.manager import load_plugin, load_plugins
from ddbench.runtime.context import Context
from ddbench.runtime.machine import Machine
from ddbench.runtime.progress import Reporter
from ddbench.runtime.store import Store
from ddbench.tables import describe
from ddbench.tables.leaderboard import build
from ddbench.testing.toy import toy_dataset

NETWORKS = ["convnet-1-bn", "convnet-2-bn", "mlp"]
#: Values of options that are text.
TEXTS = {
    "teacher": st.sampled_from(NETWORKS),
    "severities": st.lists(st.integers(1, 5), unique=True, min_size=1).map(tuple),
    "image_encoder": st.sampled_from(NETWORKS),
    "teachers": st.lists(st.sampled_from(NETWORKS), unique=True, min_size=1).map(tuple),
}
#: Options that a protocol may leave out, and why.
EXCEPT = {
    "teacher_file": "where a file lies changes nothing: the protocol has the digest of its weights",
    "image_file": "where a file lies changes nothing: the protocol has the digest of its weights",
    ("retrieval", "text_encoder"): "the protocol has the digest of its weights",
    ("retrieval", "captioner"): "the protocol has the digest of what it says of the test images",
    "decode": "changes what is done with images that hold several only, and the protocol shows where they are not cut",
    ("idc", "bound"): "changes the epochs of images above 64 pixels only, and the protocol shows the epochs",
}
#: Settings under which an option has its effect: (evaluator, option) → other options.
WITH: dict[tuple[str, str], dict[str, Any]] = {
    ("lrs", "teachers"): {"labels": "soft"},
    ("rethinkdc-hard", "teacher"): {"labels": "online"},
    ("edc", "labels"): {"randaugment": "false"},
    ("krr", "networks"): {"kernel": "random-features"},
    ("krr", "width"): {"kernel": "random-features"},
    ("retrieval", "width"): {"trained": "head"},
    ("rfad-nn", "scale_minibatch"): {"batch_size": 1},
}
#: Settings that make the networks which a protocol speaks of cheap.
QUICK: dict[str, dict[str, Any]] = {
    "lrs": {"epochs": 1},
    "retrieval": {"image_encoder": "convnet-1", "trained": "encoder"},
}

EVALUATORS = load_plugins().entries["evaluator"]
OPTIONS = [
    (name, option)
    for name, entry in EVALUATORS.items()
    for option in getattr(load_plugin(entry).Options, "model_fields", {})
    if option not in EXCEPT and (name, option) not in EXCEPT
]


@pytest.fixture(scope="module")
def ctx(tmp_path_factory, text_encoder):
    """A context whose teachers are trained for one epoch and kept over all examples."""
    patch = pytest.MonkeyPatch()
    patch.setattr(recipes, "GENERIC", replace(recipes.GENERIC, epochs=1))
    patch.setitem(QUICK["retrieval"], "text_encoder", str(text_encoder))
    store = Store(tmp_path_factory.mktemp("protocols"))
    yield Context(
        plugins=load_plugins(),
        store=store,
        reporter=Reporter(),
        machine=Machine(offline=True),
        _dataset=toy_dataset(channels=3),
    )
    patch.undo()


def values(option: str, field: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of an option's values by its type and bounds."""
    if option in TEXTS:
        return TEXTS[option]
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Literal:
        return st.sampled_from([choice for choice in get_args(kind) if choice != "auto"])  # it stands for another one
    if kind is bool:
        return st.booleans()
    bounds = {name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)}
    if kind is int:
        low = bounds.get("ge", bounds.get("gt", -1) + 1)
        return st.integers(low, bounds.get("le", low + 6))
    if kind is float:
        low = bounds.get("ge", bounds.get("gt", 0.0))
        high = bounds.get("le", bounds.get("lt", low + 1))
        return st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds, allow_subnormal=False)
    raise AssertionError(f"add values of {option!r} ({kind}) to TEXTS, or to EXCEPT with the reason")


def protocol(ctx: Context, evaluator: str, options: dict[str, Any]) -> ddbench.Protocol:
    """Return the protocol for a random selection of the toy data."""
    data = ctx.dataset
    pixels, labels = data.arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == label)[:4] for label in range(data.num_classes)])
    mine = replace(ctx, explicit={"evaluator": options})
    found, mine, _ = prepare_evaluator(mine, evaluator, "convnet-3-bn", 4)
    soft_labels = np.eye(data.num_classes, dtype=np.float32)[labels[chosen]]
    return found.protocol(mine, ddbench.DistilledSet(pixels[chosen], labels[chosen], soft_labels=soft_labels))


@pytest.mark.parametrize(("evaluator", "option"), OPTIONS, ids=lambda value: value)
@settings(max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_another_value_is_another_protocol_and_never_shares_a_column(ctx, evaluator, option, data):
    field = load_plugin(EVALUATORS[evaluator]).Options.model_fields[option]
    strategy = values(option, field)
    one = data.draw(strategy)
    two = data.draw(strategy.filter(lambda value: value != one))
    others = QUICK.get(evaluator, {}) | WITH.get((evaluator, option), {})
    try:
        first, second = (protocol(ctx, evaluator, others | {option: value}) for value in (one, two))
    except DDBenchError:
        reject()  # not a value that goes with the others
    assert first.digest != second.digest
    made = [
        make(evaluator=evaluator, settings=dict(p.settings), extension=p.extension, eval_explicit=explicit)
        # Also where a preset set the option, so that nothing but the protocol differs.
        for p, explicit in ((first, {}), (second, {}), (first, {option: one}), (second, {option: two}))
    ]
    for pair in (made[:2], made[2:]):
        cells = [cell for table in build(pair) for row in table.rows for cell in row.cells if cell is not None]
        assert [len(cell.values) for cell in cells] == [1, 1]
        lines = describe.difference(*pair)
        assert lines[0] == "Not comparable: the protocols differ."
        assert lines[1] == "protocol" and " → " in lines[2]


def test_exceptions_are_options_that_exist():
    described = {name: options for name, entry in EVALUATORS.items() if (options := load_plugin(entry).Options)}
    known = {(name, option) for name, options in described.items() for option in options.model_fields}
    assert EXCEPT.keys() <= known | {option for _, option in known}
    assert {*WITH} <= {*OPTIONS}


def test_a_teacher_file_shows_by_its_content(ctx, tmp_path):
    from safetensors.torch import save_file

    network = replace(ctx, network="convnet-1-bn")
    digests = {}
    for name, seed in (("a", 0), ("copy", 0), ("b", 1)):
        path = tmp_path / name / "teacher.safetensors"
        path.parent.mkdir()
        save_file(network.build_network(seed=seed).state_dict(), path)
        options = {"teacher": "convnet-1-bn", "teacher_file": str(path)}
        digests[name] = protocol(ctx, "rded", options).digest
    assert digests["a"] == digests["copy"] != digests["b"]
