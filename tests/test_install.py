"""What the package declares that it needs: everything it imports, and only that; tables are read without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ddbench.errors import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements):
    return {requirement.partition(">")[0].partition("[")[0].strip() for requirement in requirements}


def imported(folder):
    modules = set()
    for path in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for block in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
            if ast.unparse(block.test) == "TYPE_CHECKING":
                block.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add((node.module or "").partition(".")[0])
    return modules - set(sys.stdlib_module_names) - {"ddbench", "ddbench_plugins", "pytest"}


def test_what_is_imported_is_declared_and_nothing_else():
    known = packages_distributions()
    used = {known[module][0].lower().replace("_", "-") for module in imported("ddbench") | imported("plugins")}
    extras = (names(PROJECT["optional-dependencies"][extra]) for extra, _ in EXTRAS.values())
    declared = names(PROJECT["dependencies"]).union(*extras)
    assert used == {name.replace("_", "-") for name in declared}


@pytest.mark.parametrize("extra", ["run", "slurm", "ray"])
def test_the_modules_of_an_extra_are_those_that_errors_know(extra):
    known = packages_distributions()
    modules = [module for module, (name, _) in EXTRAS.items() if name == extra]
    distributions = {known[module][0].lower().replace("-", "_") for module in modules}
    assert distributions == {name.replace("-", "_") for name in names(PROJECT["optional-dependencies"][extra])}


LIGHT = """
import sys
from importlib.abc import MetaPathFinder
from ddbench.errors import EXTRAS

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
COMMAND = "from ddbench.cli import main; main()"
NOTEBOOK = """
import ddbench
assert len(ddbench.records(dataset="digits").to_frame())
assert ddbench.leaderboard() and ddbench.compare("vlcp", "random", dataset="digits")
"""


def light(*arguments, code=COMMAND):
    command = [sys.executable, "-c", LIGHT + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    "command", ["list", "show vlcp", "registry verify", "leaderboard --check", "compare --help", "cache"]
)
def test_results_are_read_without_what_runs_need(command, tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path))
    done = light(*command.split())
    assert done.returncode == 0, done.stderr


def test_a_notebook_reads_results_without_what_runs_need():
    done = light(code=NOTEBOOK)
    assert done.returncode == 0, done.stderr


def test_a_run_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path))
    done = light("run", "-m", "random", "-e", "rded", "--registry", str(tmp_path / "registry"))
    assert done.returncode == 2
    assert "needs the package sklearn, which is not installed" in done.stderr
    assert "pip install 'ddbench[run]'" in done.stderr
