import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ddbench.runtime import environment
from ddbench.runtime.steps import cached


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("rded", "rded"),
        ("1,10", "1,10"),
        ("/home/me/registry", "registry"),
        ("folder:/home/me/photos", "folder:photos"),
        ("folder:/home/me/a,npz:~/b.npz,digits", "folder:a,npz:b.npz,digits"),
        ("method.backbone=/models/sd", "method.backbone=sd"),
        ("--plugin=../mine.py", "--plugin=mine.py"),
    ],
)
def test_a_recorded_command_names_no_folder(monkeypatch, argument, shown):
    monkeypatch.setattr("sys.argv", ["/usr/bin/ddbench", "run", argument])
    assert environment.describe()["command"] == f"ddbench run {shown}"


def test_the_number_of_threads_is_recorded(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # not imported yet
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    for chosen in ("3", "3,2"):
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
        assert environment.software.__wrapped__()["threads"] == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 5, 6}, raising=False)
    assert environment.threads() == 3
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(get_num_threads=lambda: 7))
    assert environment.threads() == 7


@pytest.mark.parametrize(("chosen", "policy"), [("", "passive"), ("active", "active")])
def test_waiting_threads_sleep_unless_told_otherwise(chosen, policy):
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = "import sys, ddbench; assert 'torch' not in sys.modules; import os; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**variables, **({"OMP_WAIT_POLICY": chosen} if chosen else {})},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == policy


def test_a_step_says_with_how_many_threads_it_was_made(ctx, monkeypatch):
    monkeypatch.setattr(environment, "threads", lambda: 5)
    assert cached(ctx, "some", {"version": 1}, lambda step: None).cost()["threads"] == 5
