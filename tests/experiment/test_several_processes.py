"""Commands that a launcher starts several times: one artifact folder, one record, and what one process would find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ddbench.testing.diffusion import tiny_pipeline
from ddbench.testing.llava import tiny_llava

PLUGIN = Path(__file__).parents[1] / "toy_plugin.py"
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def ddbench(folder, *arguments, several=False):
    """Run a command in its own artifact folder; two processes with ``several``."""
    command = [sys.executable, *(LAUNCHER if several else ()), "-m", "ddbench", *arguments]
    home = {"DDBENCH_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "DDBENCH_PLUGIN_ERRORS": "raise"}
    folder.mkdir(exist_ok=True)
    return subprocess.run(command, cwd=folder, env={**os.environ, **home}, capture_output=True, text=True, check=False)


def files(folder, pattern):
    return {path.relative_to(folder): path for path in sorted(folder.glob(pattern))}


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    tiny_pipeline(tmp_path / "diffusion")
    tiny_llava(tmp_path / "llava")
    chosen = {
        "method.backbone": tmp_path / "diffusion",
        "method.captioner": "llava",
        "captioner.model": tmp_path / "llava",
        "captioner.max_new_tokens": 4,
        "captioner.batch_size": 8,
        "method.acceptance": "never",
        "method.steps": 2,
        "method.finetune_epochs": 1,
        "method.finetune_batch_size": 7,  # not to be divided by two
        "method.finetune_accumulate": 2,
        "method.finetune_learning_rate": 1e-3,
    }
    options = [word for key, value in chosen.items() for word in ("-o", f"{key}={value}")]
    command = ("run", "-m", "vlcp", "-e", "nearest-mean", "-d", "toy", "--plugin", str(PLUGIN), "--ipc", "1")
    machine = ("--device", "cpu", "--precision", "fp32", "--offline")
    one = ddbench(tmp_path / "one", *command, *options, *machine)
    two = ddbench(tmp_path / "two", *command, *options, *machine, several=True)
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("record  ") == one.stdout.count("record  ") == 1
    assert two.stderr.count("• finetuned") == 1

    alone, shared = (tmp_path / name / "home" for name in ("one", "two"))
    for pattern, count in (("captions/*/metadata.jsonl", 1), ("latents/*/*.npy", 3)):
        found = files(alone, pattern)
        assert len(found) == count and found.keys() == files(shared, pattern).keys()
        assert all((shared / place).read_bytes() == path.read_bytes() for place, path in found.items())
    (place,) = files(alone, "finetuned/*/model/unet/*.safetensors")
    before = load_file(tmp_path / "diffusion/unet" / place.name)
    mine, theirs = load_file(alone / place), load_file(shared / place)
    assert max(np.abs(mine[name] - before[name]).max() for name in mine) > 1e-3
    for name, weights in mine.items():
        np.testing.assert_allclose(theirs[name], weights, rtol=1e-5, atol=2e-5, err_msg=name)
    figures = [json.loads(next(home.glob("finetuned/*/step.json")).read_text())["info"] for home in (alone, shared)]
    assert figures[1]["loss"] == pytest.approx(figures[0]["loss"], rel=1e-5)
    assert not list(shared.glob("*/*/posteriors")) and not list(shared.glob("captions/*/*partial*"))

    (record,) = (tmp_path / "two/registry").rglob("ipc1-*.json")
    assert json.loads(record.read_text())["environment"]["processes"] == 2
    (other,) = (tmp_path / "one/registry").rglob("ipc1-*.json")
    assert other.name == record.name and "processes" not in json.loads(other.read_text())["environment"]


@pytest.mark.slow
def test_what_is_not_divided_is_done_once_and_errors_end_all(tmp_path):
    command = ("run", "-m", "toy", "-e", "nearest-mean", "-d", "toy", "--plugin", str(PLUGIN), "--ipc", "1")
    done = ddbench(tmp_path / "done", *command, "--device", "cpu", several=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("record  ") == 1 and done.stderr.count("• distilled") == 1
    failed = ddbench(tmp_path / "done", *command, "--device", "cpu:0", several=True)
    assert failed.returncode
    assert failed.stderr.count("Several processes cannot all use the device 'cpu:0'") == 1
