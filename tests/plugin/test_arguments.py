"""The Python API reads what is plainly meant and refuses the rest by name: never another error than DDBenchError."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ddbench
from ddbench.errors import RecordError, UsageError
from ddbench.plugin import arguments

TOY = Path(__file__).parents[1] / "toy_plugin.py"
CALL = {"dataset": "toy", "plugins": TOY}


@pytest.mark.parametrize("value", ["12", 12, np.int64(12), np.array(12), [12], ["12"], np.array([12]), " 12 "])
def test_whole_numbers_are_read_as_they_are_meant(value):
    assert arguments.numbers(value, "seed") == [12]


@pytest.mark.parametrize("value", ["1,2", range(1, 3), np.arange(1, 3), (1, 2, 1), "1, 2", iter([1, 2])])
def test_several_numbers_are_read_from_any_sequence(value):
    assert arguments.numbers(value, "seed") == [1, 2]


@pytest.mark.parametrize("value", [(), [], "", np.arange(0)])
def test_nothing_is_no_number(value):
    assert arguments.numbers(value, "seed") == []


WRONG = [
    True,
    np.True_,
    1.0,
    np.float64(1),
    "a",
    "1.5",
    None,
    b"1",
    {"a": 1},
    [1.5],
    [True],
    [None],
    np.eye(2),
    {1: 2},
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(UsageError, match="seed must be a whole number"):
        arguments.numbers(value, "seed")


def test_text_and_numbers_make_the_same_set():
    text, number = (ddbench.distill("toy", seed=seed, ipc=ipc, **CALL) for seed, ipc in (("12", "2"), (12, 2)))
    assert len(text) == len(number) == 1
    assert text[0].about["seed"] == 12
    assert text[0].path == number[0].path


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": 3},
        {"method": []},
        {"method": [3]},
        {"method": Path("x")},
        {"eval": 3},
        {"dataset": Path("rgb.npz")},
        {"dataset": 3},
        {"dataset": None},
        {"ipc": []},
        {"ipc": 0},
        {"ipc": -1},
        {"ipc": None},
        {"ipc": True},
        {"network": 3},
        {"seed": 1.5},
        {"seed": None},
        {"seed": -1},
        {"method": "full", "ipc": -1},
        {"plugins": "~no-such-user/x.py"},
        {"registry": "x" * 5000},
        {"evaluation_seed": "x"},
        {"evaluation_seed": [1]},
        {"evaluation_seed": True},
        {"repeats": 0},
        {"repeats": "x"},
        {"repeats": True},
        {"repeats": 1.0},
        {"preset": 3},
        {"preset": ["paper"]},
        {"options": [("method", {})]},
        {"options": {"method": 3}},
        {"options": {3: {}}},
        {"options": {"method": {3: 1}}},
        {"options": {"method": {"noise": True}}},
        {"options": {"method": {"noise": [1]}}},
        {"options": {"method": {"noise": np.eye(2)}}},
        {"options": "method.noise=1"},
        {"plugins": 3},
        {"plugins": [3]},
        {"plugins": "x.py"},
        {"plugins": "a\0b"},
        {"registry": 3},
        {"registry": None},
        {"registry": ""},
        {"device": 3},
        {"device": None},
        {"precision": 32},
        {"offline": "no"},
        {"force": "no"},
        {"reporter": "x"},
    ],
    ids=str,
)
def test_wrong_arguments_are_explained(wrong, tmp_path):
    good = {"method": "toy", "eval": "nearest-mean", "ipc": 2, "registry": tmp_path / "registry", **CALL}
    with pytest.raises(ddbench.DDBenchError):
        ddbench.run(**(good | wrong))
    assert not list(tmp_path.glob("registry/**/*.json"))


def test_numpy_numbers_and_text_work_in_every_place(tmp_path):
    (record,) = ddbench.run(
        "toy",
        "nearest-mean",
        ipc=np.int64(2),
        seed=np.arange(1),
        evaluation_seed=np.int32(1),
        repeats="3",
        options={"method": {"noise": np.float32(2)}},
        force=np.True_,
        registry=tmp_path / "registry",
        **CALL,
    )
    assert (record.cell.ipc, record.cell.seed, record.cell.evaluation_seed) == (2, 0, 1)
    assert len(record.result.values) == 3
    assert record.cell.method.options["noise"] == 2.0


def test_an_empty_list_of_budgets_says_so():
    with pytest.raises(UsageError, match="ipc is empty"):
        ddbench.distill("toy", ipc=[], **CALL)


def test_one_plugin_file_may_be_given_as_text():
    with pytest.raises(ddbench.PluginError, match=r"'x\.py' does not exist"):
        ddbench.distill("toy", plugins="x.py")
    assert ddbench.load_dataset("toy", plugins=str(TOY)).name == "toy"


def test_truth_values_are_no_epochs():
    with pytest.raises(UsageError, match="epochs=True is a truth value"):
        ddbench.run("random", "minimax", options={"eval": {"epochs": True}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": "x"},
        {"learning_rate": True},
        {"mean": 3, "std": 3, "space": "normalised"},
        {"mean": "0.5", "std": "0.5", "space": "normalised"},
        {"space": 5},
        {"run": True},
        {"run": 1.0},
        {"classes": "abc"},
        {"classes": [1, 2, 3]},
        {"lr": 1},
    ],
    ids=str,
)
def test_what_is_declared_of_a_set_is_checked(wrong, tmp_path):
    (tmp_path / "set.npz").write_bytes(b"")
    with pytest.raises(UsageError):
        ddbench.import_set(tmp_path / "set.npz", "mine", **CALL, **wrong)
    with pytest.raises(UsageError):
        ddbench.evaluate(tmp_path / "set.npz", "nearest-mean", **CALL, **wrong)


@pytest.mark.parametrize("wrong", [3, None, "", "a\0b", b"x", "x" * 5000, "\ud800", "~no-such-user/x"])
def test_what_is_no_path_is_refused(wrong):
    with pytest.raises(UsageError, match="path must be a path"):
        ddbench.load(wrong)
    with pytest.raises(UsageError, match="path must be a path"):
        ddbench.evaluate(wrong, "rded")


def test_a_file_is_no_distilled_set(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordError, match="is not a distilled set"):
        ddbench.load(tmp_path / "file")


def test_every_explained_error_can_be_caught_by_its_name():
    from ddbench import errors

    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.DDBenchError)]
    assert {each.__name__ for each in kinds} <= set(ddbench.__all__)
    assert all(getattr(ddbench, each.__name__) is each for each in kinds)


def test_home_folders_are_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert arguments.path("~/registry", "registry") == tmp_path / "registry"


@pytest.mark.parametrize("ipc", ["x", True, 1.5, None, 0])
def test_plugins_get_no_other_budget_than_whole_numbers(ipc, digits):
    ddbench.check_ipc(digits, np.int64(1))
    with pytest.raises(UsageError, match="IPC must be"):
        ddbench.check_ipc(digits, ipc)


def test_seeds_are_derived_from_whole_numbers():
    assert ddbench.derive_seed(np.int64(3), "student", np.int64(2)) == ddbench.derive_seed(3, "student", 2)
    assert ddbench.digest({"a": np.int64(3)}) == ddbench.digest({"a": 3})
    for base in ("3", None, True, 3.0):
        with pytest.raises(UsageError, match="from a whole number"):
            ddbench.derive_seed(base, "student")
