"""The example package is found through its entry point, as after ``pip install``, and passes its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "docs" / "examples" / "ddbench-hello"


@pytest.fixture
def python(tmp_path):
    """Run Python where the package is installed: its folder and metadata are on the path, as pip leaves them."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
    info = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["ddbench"]
    (info / "entry_points.txt").write_text("[ddbench]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    path = os.pathsep.join([str(info.parent), str(PACKAGE), os.environ.get("PYTHONPATH", "")])

    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **variables},
            cwd=tmp_path,
        )

    return run


def test_it_is_listed_without_being_imported(python):
    code = (
        "import sys; from ddbench.plugin.manager import load_plugins\n"
        "entry = load_plugins().get('method', 'hello-means')\n"
        "print(entry.owner, 'ddbench_hello' in sys.modules, 'ddbench_hello.means' in sys.modules)"
    )
    assert python("-c", code).stdout == "hello (ddbench-hello 0.1.0) True False\n"
    found = python("-m", "ddbench", "list", "methods")
    assert "averages of random groups of training images [hello (ddbench-hello 0.1.0)]" in found.stdout
    assert "vlcp" in found.stdout


def test_it_distils(python, tmp_path):
    done = python("-m", "ddbench", "distill", "-m", "hello-means", "--ipc", 2, "-o", "method.group=3", "--out", "sets")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "sets").iterdir()
    assert len(list(folder.glob("images/*/*.png"))) == 20


def test_its_own_tests_pass(python):
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", PACKAGE / "tests")
    assert done.returncode == 0, done.stdout


def test_its_failure_leaves_the_others_working(python, tmp_path):
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "ddbench_hello.py").write_text("raise RuntimeError('half installed')\n")
    path = os.pathsep.join([str(tmp_path / "shadow"), str(tmp_path / "site")])
    found = python("-m", "ddbench", "list", "methods", PYTHONPATH=path)
    assert found.returncode == 0
    assert "vlcp" in found.stdout
    assert "warning: left out hello (ddbench-hello 0.1.0)" in found.stderr
    assert "RuntimeError: half installed" in found.stderr
