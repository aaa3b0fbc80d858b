"""The same command gives the same digest, on all threads: README and docs/results/registry.md promise it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

#: The main job in small, on every tenth digit. Its diffusion model is trained from the beginning, not taken from the
#: package.
RUN = [
    *(sys.executable, "-m", "ddbench", "run", "--quiet", "-m", "vlcp", "-e", "rded", "--ipc", "2", "--repeats", "1"),
    *("-o", "method.small_vae_steps=2", "-o", "method.small_unet_steps=2", "-o", "method.finetune_epochs=1"),
    *("-o", "method.finetune_batch_size=1024", "-o", "method.steps=4", "-o", "method.acceptance=never"),
    *("-n", "convnet-1-bn", "-o", "eval.epochs=3"),
]


def digests(folder: Path, data: Path) -> list[str]:
    """Of the weights that were trained on the way, in which the last digits show, of the images, and of the record."""
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["DDBENCH_HOME"] = str(folder / "home")
    command = [*RUN, "-d", f"npz:{data}"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "registry").rglob("*.json")
    record = json.loads(path.read_text("utf-8"))
    weights = sorted((folder / "home").glob("*/*/**/*.safetensors"))
    assert len(weights) > 4
    found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights]
    return [*found, record["distilled"]["digest"], record["digest"]]


@pytest.mark.slow
def test_the_main_job_gives_one_digest_on_all_threads(tmp_path, digits):
    some = {
        f"{split}_{part}": values[::10]
        for split in ("train", "test")
        for part, values in zip(("images", "labels"), digits.arrays(split), strict=True)
    }
    np.savez(tmp_path / "digits.npz", **some, class_names=digits.class_names)
    one, two = (digests(tmp_path / name, tmp_path / "digits.npz") for name in ("one", "two"))
    assert one == two
