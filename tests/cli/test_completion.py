"""Completion: what a shell asks click for, and a real bash with the documented line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from ddbench import cli

ROOT = Path(__file__).parents[2]


def offered(*words):
    *before, incomplete = words
    items = ShellComplete(cli.group, {}, "ddbench", "_DDBENCH_COMPLETE").get_completions(list(before), incomplete)
    return [item.value for item in items]


def test_names_of_plugins_are_offered_in_comma_lists():
    assert offered("run", "-m", "vl") == ["vlcp"]
    assert offered("run", "-m", "random,vl") == ["random,vlcp"]
    assert "random,random" not in offered("run", "-m", "random,")
    assert offered("run", "-m", "random", "--eval", "minim") == ["minimax"]
    assert offered("plan", "-d", "cifar1") == ["cifar10", "cifar100"]
    assert "convnet-3-bn" in offered("evaluate", "x", "-n", "convnet-3")
    assert offered("show", "evalu") == ["evalu"]  # a path
    assert offered("show", "rde") == ["rded", "rded", "rded-robust"]  # of two kinds
    assert offered("data", "check", "digi") == ["digits"]
    assert offered("compare", "vlcp", "herd") == ["herding"]


def test_commands_presets_options_kinds_and_boards_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert offered("lea") == ["leaderboard"]
    assert offered("cache", "pr") == ["prune"]
    assert offered("run", "--preset", "paper+off") == ["paper+official"]
    assert offered("run", "-m", "vlcp", "-e", "minimax", "-o", "eval.ep") == ["eval.epochs="]
    assert "method.strength=" in offered("run", "-m", "vlcp", "-o", "method.st")
    assert offered("list", "cap") == ["captioner"]
    (tmp_path / "leaderboards").mkdir()
    for name in ("README", "digits", "table2"):
        (tmp_path / "leaderboards" / f"{name}.md").write_text("")
    assert offered("leaderboard", "--board", "") == ["digits", "table2"]


def test_names_of_a_plugin_file_are_offered_and_a_broken_one_breaks_nothing(tmp_path):
    text = (
        "import ddbench\n@ddbench.hookimpl\ndef ddbench_networks(): return [ddbench.NetworkSpec('tiny-one', print)]\n"
    )
    (tmp_path / "mine.py").write_text(text)
    assert offered("run", "--plugin", str(tmp_path / "mine.py"), "-n", "tiny") == ["tiny-one"]
    (tmp_path / "mine.py").write_text("1 / 0")
    assert offered("run", "--plugin", str(tmp_path / "mine.py"), "-n", "tiny") == []


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_with_the_documented_line(tmp_path):
    line = 'eval "$(_DDBENCH_COMPLETE=bash_source ddbench)"'
    assert f"`{line}`" in (ROOT / "docs" / "cli" / "index.md").read_text("utf-8")
    program = tmp_path / "ddbench"
    program.write_text(f"#!{sys.executable}\nfrom ddbench.cli import main\nmain()\n")
    program.chmod(0o755)
    script = f"""{line}
COMP_WORDS=(ddbench run --method random,herd); COMP_CWORD=3
_ddbench_completion ddbench; printf '%s\\n' "${{COMPREPLY[@]}}" """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["random,herding"]
