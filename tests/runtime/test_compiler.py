"""Whether kernels can be compiled is found out, said, recorded, and part of keys."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ddbench import compiler
from ddbench.errors import DDBenchError
from ddbench.runtime import environment
from ddbench.runtime.machine import Machine


@pytest.fixture
def look(monkeypatch):
    """Look anew, in this test and after it."""
    compiler.obstacle.cache_clear()
    yield compiler.obstacle
    monkeypatch.undo()
    compiler.obstacle.cache_clear()


def fake(folder: Path, script: str) -> None:
    path = folder / "cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernels are made for Linux only")


@linux
def test_no_compiler_on_the_path(look, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look() == "there is no C compiler (cc, gcc, clang) on the PATH"


@linux
def test_a_compiler_that_fails_is_named_with_its_reason(look, monkeypatch, tmp_path):
    fake(tmp_path, "echo 'cannot find -lgomp' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look() == f"{tmp_path / 'cc'} fails: cannot find -lgomp"


@linux
def test_a_folder_that_nothing_can_be_run_from(look, monkeypatch, tmp_path):
    fake(tmp_path, 'while [ "$1" != -o ]; do shift; done; echo made > "$2"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def refuse(*_args, **_kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(compiler.mmap, "mmap", refuse)
    assert look().startswith("nothing can be compiled in") and look().endswith("Operation not permitted")


def test_kernels_can_be_done_without(look, monkeypatch):
    monkeypatch.setenv("DDBENCH_KERNELS", "0")
    assert look() == "DDBENCH_KERNELS is 0"


def test_what_compiles_in_the_trial_and_fails_later_is_an_error(monkeypatch, tmp_path):
    source = tmp_path / "wrong.c"
    source.write_text("int broken(")
    monkeypatch.setattr(compiler, "_compile", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(DDBenchError, match=r"wrong\.c cannot be compiled or loaded: no space left") as caught:
        compiler.library(source)
    assert "DDBENCH_KERNELS=0" in caught.value.hint


@pytest.mark.parametrize(
    ("reason", "cxx", "missing"),
    [
        ("", True, {}),
        ("none here", True, {"kernels": "none"}),
        ("", False, {"torch.compile": "none"}),
        ("none here", False, {"kernels": "none", "torch.compile": "none"}),
    ],
)
def test_missing_compilers_are_part_of_the_keys_of_steps(monkeypatch, reason, cxx, missing):
    monkeypatch.setattr(compiler, "obstacle", lambda: reason)
    monkeypatch.setattr(compiler, "has_cxx", lambda: cxx)
    assert Machine("cpu", "fp32").numerics() == {"device": "cpu", "precision": "fp32", **missing}
    assert Machine("cuda:1", "fp16").numerics() == {"device": "cuda", "precision": "fp16"}


@pytest.mark.parametrize("reason", ["", "none here"])
def test_records_say_which_compiler_made_the_kernels(monkeypatch, reason):
    monkeypatch.setattr(compiler, "obstacle", lambda: reason)
    monkeypatch.setattr(compiler, "_compiler", lambda: sys.executable)
    found = environment.software.__wrapped__()
    assert found["kernels"] == ("none" if reason else "compiled")
    assert found["compiler"] == ("none: none here" if reason else f"Python {sys.version.split()[0]}")
