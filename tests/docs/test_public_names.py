"""The public names are the same for Python, which imports them on first use, and for type checkers."""

from __future__ import annotations

import importlib.resources
import os
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import blocks

import ddbench

ROOT = Path(__file__).parents[2]
#: A notebook that uses every function, and a plugin with types; two lines are wrong on purpose.
SCRIPT = """
from pathlib import Path

import numpy as np
import ddbench

records = ddbench.run("vlcp", "rded", ipc=[1, 10], seed=np.arange(3), plugins=Path("mine.py"))
ddbench.run("vlcp", "rded", ipc="ten")
ddbench.no_such_name
reveal_type(records[0].mean)
reveal_type(ddbench.records(dataset="cifar10", ipc=10).to_frame()["value"].mean())
reveal_type(ddbench.compare("vlcp", "random").settings[0].over_runs.p_value)
reveal_type(ddbench.plan("vlcp", "rded").states)
reveal_type(ddbench.leaderboard(board="cifar10").to("latex"))
(made,) = ddbench.distill("vlcp", ipc=1, out="sets", reporter=ddbench.Reporter())
reveal_type(ddbench.evaluate(made.path, "rded", network=["convnet-3", "resnet18"]).to_frame)
reveal_type(ddbench.import_set("res.pt", "authors", space="normalised").prompts)
reveal_type(ddbench.load("set").class_names)
loader = ddbench.load("set").torch_dataset(transform=lambda image: image.flip(-1))
reveal_type(ddbench.load_dataset("digits").num_classes)


class First(ddbench.Distiller):
    class Options(ddbench.Options):
        offset: int = 0

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        images = np.zeros((len(ctx.dataset.class_names), 8, 8, 1), np.uint8)
        return ddbench.DistilledSet(images, np.zeros(1, np.int64), space="rgb_uint8")


@ddbench.hookimpl
def ddbench_methods() -> list[ddbench.MethodSpec]:
    return [ddbench.MethodSpec("first", First)]
"""
TYPES = (
    "float",
    "float",
    "float | None",
    "list[str]",
    "str",
    "def () -> pandas.core.frame.DataFrame",
    "tuple[str, ...] | None",
    "tuple[str, ...]",
    "int",
)


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
def test_scripts_and_the_plugins_of_the_tutorial_are_type_checked(tmp_path):
    """By one run, most of which goes into ddbench itself."""
    pytest.importorskip("mypy")
    every = "".join(f"ddbench.{name}\n" for name in dir(ddbench))
    (tmp_path / "script.py").write_text(f"{SCRIPT}\n{every}", "utf-8")
    config = "[mypy]\nstrict = true\nfollow_imports = silent\n"
    pages = [page for page in (ROOT / "docs" / "plugins").glob("*.md") if page.stem != "mistakes"]
    for block in (block for page in pages for block in blocks(page) if block.language == "python" and block.file):
        (tmp_path / block.file).write_text(block.text, "utf-8")
        # Annotations are the author's choice; what is used of ddbench is checked all the same.
        config += f"[mypy-{Path(block.file).stem}]\ndisallow_untyped_defs = false\ndisallow_untyped_calls = false\n"
        config += "warn_return_any = false\ndisable_error_code = var-annotated\n"
    (tmp_path / "mypy.ini").write_text(config, "utf-8")
    places = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": places},
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    said = done.stdout.splitlines()
    errors = [(*line.split(":")[:2], line.split()[-1]) for line in said if "error:" in line]
    assert errors == [("script.py", "8", "[arg-type]"), ("script.py", "9", "[attr-defined]")], done.stdout
    assert said[-1].endswith(f"(checked {len(list(tmp_path.glob('*.py')))} source files)")
    assert [line.partition("note: ")[2] for line in said if "Revealed" in line] == [
        f'Revealed type is "{name}"' for name in TYPES
    ]
