import os
import subprocess
import sys

import pytest

from ddbench import environment


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
    assert environment.describe.__wrapped__()["command"] == f"ddbench run {shown}"


def test_the_number_of_threads_is_recorded(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment.describe.__wrapped__()["threads"] == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert environment.describe.__wrapped__()["threads"] == environment.os.cpu_count()


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
