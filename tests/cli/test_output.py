"""What commands print: places, accuracies, few notes, nothing when quiet, and guesses at what was meant."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from records import make

from ddbench import cli
from ddbench.cli import common
from ddbench.errors import UsageError
from ddbench.results import schema as records
from ddbench.tables.board import Board, Grid, Heading
from ddbench.tables.formats import terminal

TOY = str(Path(__file__).parents[1] / "toy_plugin.py")


def invoke(*arguments):
    return CliRunner().invoke(cli.group, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = ("run", "-m", "random,full", "-e", "nearest-mean", "--ipc", "1", "--repeats", "1", "--plugin", TOY)


def test_every_cell_says_its_place_and_ends_with_its_accuracy(here):
    told = invoke(*RUN).stderr.splitlines()
    begun = [line for line in told if re.match(r"\[\d/2\] \w+ on digits", line)]
    assert begun == [
        "[1/2] random on digits, IPC 1, seed 0, nearest-mean on convnet-3",
        "[2/2] full on digits, IPC full, seed 0, nearest-mean on convnet-3",
    ]
    ended = [line for line in told if re.fullmatch(r"\[\d/2\] accuracy \d+\.\d %", line)]
    assert [line[:5] for line in ended] == ["[1/2]", "[2/2]"]
    invoke("distill", "-m", "random", "--ipc", "1,2", "--out", "sets")
    told = invoke("evaluate", *sorted(Path("sets").iterdir()), "-e", "nearest-mean", "--plugin", TOY).stderr
    assert "[1/1] random on digits, IPC 2, seed 0, nearest-mean on convnet-3" in told and "[1/1] accuracy" in told


def test_a_quiet_run_says_nothing(here):
    assert invoke(*RUN, "--quiet").output == ""
    assert invoke("distill", "-m", "random", "--ipc", "1", "-q").output == ""
    assert len(list(here.glob("registry/results/digits/*/*.json"))) == 2


def printed(count, **arguments):
    file = io.StringIO()
    notes = tuple(f"note {number}: {'word ' * 30}" for number in range(count))
    grid = Grid("a table", (Heading("Method"), Heading("IPC 1")), (("random", 50.0),), notes)
    terminal.show(Board("b", "B", grids=(grid,)), file, **arguments)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(("count", "last"), [(3, "note 2"), (7, "5 more notes: --notes shows all")])
def test_three_lines_of_notes_unless_all_are_asked_for(count, last):
    lines = [line for line in printed(count, notes=False) if "·" in line]
    assert len(lines) == 3 and lines[0].startswith("  · note 0") and last in lines[-1]
    assert [line[4:10] for line in printed(count) if "·" in line] == [f"note {number}" for number in range(count)]


def on_terminal(columns, *arguments):
    """Return the lines that a command writes on a real terminal, without colours."""
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", "from ddbench.cli import main; main()", *arguments]
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(command, stdout=writer, stderr=writer, env=environment) as process:
        os.close(writer)
        written = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while part := os.read(reader, 4096):
                written += part
    os.close(reader)
    assert process.returncode == 0, written
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode()).replace("\r", "").splitlines()


def test_a_narrow_terminal_is_enough(here):
    records.write(make("random", (0.5, 0.6)), here / "registry")
    for words in ("list methods", "data list", "leaderboard --board digits", "leaderboard --board digits --notes"):
        lines = on_terminal(60, *words.split())
        assert max(map(len, lines)) <= 60, words
    wrapped = on_terminal(60, "list", "methods")
    assert len(wrapped) > len(on_terminal(200, "list", "methods"))  # nothing is cut
    assert " ".join(wrapped[1].split() + wrapped[2].split()) in " ".join(invoke("list", "methods").stdout.split())


def test_every_locale_gets_valid_output(here):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", "from ddbench.cli import main; main()"]
    for words in (["data", "check", "digits"], ["data", "check", "digits", "--json"]):
        done = subprocess.run([*command, *words], capture_output=True, env=environment, check=True)
        assert done.stdout.isascii() and not done.stderr
    assert "8×8" in json.loads(done.stdout)[0]["origin"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("epochs=3", "-o eval.epochs=3?"),
        ("Epoch=3", "-o eval.epochs=3?"),
        ("strength=0.5", "-o method.strength=0.5?"),
        ("guidance=3", "-o method.guidance_scale=3?"),
    ],
)
def test_an_option_without_its_scope_gets_it(given, meant):
    with pytest.raises(UsageError) as raised:
        common.parse_options([given], {"method": ["vlcp"], "evaluator": ["minimax"], "dataset": ["cifar10"]})
    assert raised.value.hint == f"Did you mean {meant}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-m VLCP -e rded", "Unknown method 'VLCP'. Did you mean 'vlcp'?"),
        ("-m vlcp -e rded -d CIFAR10", "Unknown dataset 'CIFAR10'. Did you mean 'cifar10'?"),
        ("-m vlcp -e vlcp", "Unknown evaluator 'vlcp': it is a method."),
        ("-m vlcp -e VLCP", "Unknown evaluator 'VLCP': 'vlcp' is a method."),
        ("-m Cifar10 -e rded", "Unknown method 'Cifar10': 'cifar10' is a dataset."),
    ],
)
def test_names_in_another_case_or_of_another_kind_are_recognised(words, said):
    with pytest.raises(UsageError) as raised:
        invoke("run", *words.split())
    assert str(raised.value) == said
