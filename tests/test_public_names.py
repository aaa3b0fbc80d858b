"""The public names are the same for Python, which imports them on first use, and for type checkers."""

from __future__ import annotations

import importlib.resources
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ddbench

ROOT = Path(__file__).parents[1]
SCRIPT = """
from pathlib import Path

import numpy as np
import ddbench

records = ddbench.run("vlcp", "rded", ipc=[1, 10], seed=np.arange(3), plugins=Path("mine.py"))
reveal_type(records[0].mean)
reveal_type(ddbench.load("set").class_names)
ddbench.run("vlcp", "rded", ipc="ten")
ddbench.no_such_name


class First(ddbench.Distiller):
    class Options(ddbench.Options):
        offset: int = 0

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        reveal_type(ctx.dataset.class_names)
        images = np.zeros((1, 8, 8, 1), np.uint8)
        return ddbench.DistilledSet(images, np.zeros(1, np.int64), space="rgb_uint8")


@ddbench.hookimpl
def ddbench_methods() -> list[ddbench.MethodSpec]:
    return [ddbench.MethodSpec("first", First)]
"""


def test_every_public_name_is_there_and_documented():
    assert {"run", "records", "Records", "Reporter", "RecordError", "__version__"} <= set(dir(ddbench))
    for name in ddbench.__all__:
        assert name.startswith("__") or getattr(ddbench, name).__doc__, name


def test_a_name_that_is_not_there_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="module 'ddbench' has no attribute 'no_such_name'"):
        ddbench.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", ["ddbench", "ddbench_plugins"])
def test_the_packages_say_that_they_are_typed(package):
    assert importlib.resources.files(package).joinpath("py.typed").is_file()


@pytest.mark.slow
def test_a_script_is_type_checked(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "script.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    said = done.stdout.splitlines()
    errors = [line for line in said if "error:" in line]
    assert [(line.split(":")[1], line.split()[-1]) for line in errors] == [
        ("10", "[arg-type]"),
        ("11", "[attr-defined]"),
    ], done.stdout + done.stderr
    types = [line.partition("note: ")[2] for line in said if "Revealed" in line]
    assert types == [
        'Revealed type is "float"',
        'Revealed type is "tuple[str, ...]"',
        'Revealed type is "tuple[str, ...]"',
    ]
