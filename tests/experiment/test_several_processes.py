"""A cell by several processes: two workers share captions and latents, two processes fine-tune; one finds the same."""

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


def ddbench(folder, *arguments, **variables):
    """Run a command in its own artifact folder."""
    command = [sys.executable, "-m", "ddbench", *arguments]
    home = {"DDBENCH_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "DDBENCH_PLUGIN_ERRORS": "raise"}
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **home, **variables}, capture_output=True, text=True, check=False
    )


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
    two = ddbench(tmp_path / "two", *command, *options, *machine, "--jobs", "2", DDBENCH_FINETUNE_PROCESSES="2")
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("record  ") == one.stdout.count("record  ") == 1

    alone, shared = (tmp_path / name / "home" for name in ("one", "two"))
    for pattern, count in (("captions/*/metadata.jsonl", 1), ("latents/*/*.npy", 3)):
        found = files(alone, pattern)
        assert len(found) == count and found.keys() == files(shared, pattern).keys()
        assert all((shared / place).read_bytes() == path.read_bytes() for place, path in found.items())
    (place,) = files(alone, "finetuned/*/model/unet/*.safetensors")
    before = load_file(tmp_path / "diffusion/unet" / place.name)
    mine, theirs = load_file(alone / place), load_file(shared / place)
    moved = np.concatenate([np.abs(mine[name] - before[name]).ravel() for name in mine])
    apart = np.concatenate([np.abs(mine[name] - theirs[name]).ravel() for name in mine])
    assert moved.max() > 1e-3 and apart.max() < 0.1 * moved.max() and apart.mean() < 1e-3 * moved.mean()
    figures = [json.loads(next(home.glob("finetuned/*/step.json")).read_text())["info"] for home in (alone, shared)]
    assert figures[1]["loss"] == pytest.approx(figures[0]["loss"], rel=1e-5)
    assert not list(shared.glob("*/*/posteriors"))

    (record,) = (tmp_path / "two/registry").rglob("ipc1-*.json")
    (other,) = (tmp_path / "one/registry").rglob("ipc1-*.json")
    assert other.name == record.name
    steps = [
        {step["step"]: step for step in json.loads(path.read_text())["costs"]["steps"]} for path in (other, record)
    ]
    assert [each["finetuned"].get("processes") for each in steps] == [None, 2]


def test_a_launcher_is_refused(tmp_path):
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost"}
    refused = ddbench(tmp_path / "refused", "list", **place)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 2
    assert "A launcher started this command 4 times" in refused.stderr and "--jobs" in refused.stderr
