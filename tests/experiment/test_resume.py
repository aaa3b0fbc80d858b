"""A killed run continues from its last finished step or checkpoint and ends with the digest of an undisturbed one.

Commands are processes of their own, forked from one that has imported what all of them do, which takes longest.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ddbench import cli

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: What is killed is quick: networks of one layer, and teachers that are no convolutional ones.
RUN = ["run", "--ipc", "2", "--repeats", "2", "-n", "convnet-1-bn", "--registry", "registry"]
SHORT = ["-m", "random", "-e", "rded", "-o", "eval.teacher=mlp", "-o", "eval.epochs=60"]
GENERATIVE = [
    *("-m", "vlcp", "-e", "minimax", "-o", "eval.epochs=20", "-o", "method.acceptance_network=mlp"),
    *("-o", "method.finetune_epochs=1", "-o", "method.finetune_batch_size=128", "-o", "method.steps=10"),
]
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        *(__name__, "torch", "sklearn.cluster", "sklearn.neighbors", "ddbench_plugins.diffusion.pipeline"),
        *("transformers.models.clip.modeling_clip", "diffusers.pipelines.stable_diffusion"),
    ]
)


def _command(folder: Path, arguments: list[str], log: Connection) -> None:
    """Run a command in a folder with its own artifacts; what it says goes to the log alone."""
    os.chdir(folder)
    os.environ |= {"DDBENCH_HOME": str(folder / "home"), "DDBENCH_CHECKPOINT_SECONDS": "0"}
    sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = os.fdopen(log.fileno(), "w", buffering=1)
    # Under nohup or in a background job, tests inherit an ignored Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main(arguments)


def _run(folder: Path, arguments: list[str], kill_after: str = "", sign: int = signal.SIGKILL) -> str:
    """Run to the end, or into the step that a line of the log names with ``kill_after``; return the log.

    Killed is once the step has kept its first checkpoint, or is over; never by the clock.
    """
    folder.mkdir(exist_ok=True)
    reader, writer = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=_command, args=(folder, [*RUN, *arguments], writer))
    process.start()
    writer.close()
    text = ""
    with reader, os.fdopen(reader.fileno(), closefd=False) as lines:
        for line in lines:
            text += line
            if kill_after and kill_after in line:
                _await_checkpoint(folder / "home", kill_after.split()[-1], process)
                os.kill(process.pid, sign)
                kill_after = ""
    process.join()
    if sign == signal.SIGINT and "stopped" in text:
        assert process.exitcode == 130 and "again" in text
    return text


def _await_checkpoint(home: Path, step: str, process: multiprocessing.process.BaseProcess) -> None:
    while process.is_alive():
        # A step that ends meanwhile takes its .partial folder from under the listing.
        with contextlib.suppress(FileNotFoundError):
            if any(home.glob(f"{step}/*.partial/checkpoint*")) or any(home.glob(f"{step}/*/step.json")):
                return
        time.sleep(0.01)


def _digest(folder: Path) -> tuple[str, list[float]]:
    (path,) = (folder / "registry").rglob("*.json")
    record = json.loads(path.read_text())
    return record["digest"], record["result"]["values"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    found = {}

    def digest(name: str, arguments: list[str]) -> tuple[str, list[float]]:
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            log = _run(folder, arguments)
            assert list((folder / "registry").rglob("*.json")), log
            found[name] = _digest(folder)
        return found[name]

    return digest


@pytest.mark.slow
@pytest.mark.parametrize("signs", [(signal.SIGKILL, signal.SIGINT), (signal.SIGINT, signal.SIGKILL)])
def test_an_evaluation_killed_twice_ends_with_the_same_digest(tmp_path, undisturbed, signs):
    wanted = undisturbed("random", SHORT)
    for moment, sign in zip(("• teacher", "• student"), signs, strict=True):
        _run(tmp_path / "run", SHORT, kill_after=moment, sign=sign)
        assert not list((tmp_path / "run" / "registry").rglob("*.json")), moment
    _run(tmp_path / "run", SHORT)
    assert _digest(tmp_path / "run") == wanted


@pytest.mark.slow
def test_a_distillation_killed_twice_ends_with_the_same_digest(tmp_path, undisturbed):
    wanted = undisturbed("vlcp", GENERATIVE)
    for moment in ("• finetuned", "• synthesis"):
        _run(tmp_path / "run", GENERATIVE, kill_after=moment)
        assert not list((tmp_path / "run" / "registry").rglob("*.json")), moment
    log = _run(tmp_path / "run", GENERATIVE)
    assert _digest(tmp_path / "run") == wanted, log
