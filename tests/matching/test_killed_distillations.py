"""A killed distillation goes on from the checkpoint in its step's folder and ends with the same set."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.runtime.progress import Reporter
from ddbench.runtime.store import Store

pytest.importorskip("torch")
TRAJECTORIES = {
    **{"iterations": 6, "experts": 1, "expert_batch": 256, "expert_epochs": 1, "max_start_epoch": 1},
    **{"syn_steps": 1, "lr_img": 10.0},
}
METHODS = {
    "dm": {"iterations": 6, "batch_real": 8},
    "dsa": {"iterations": 2, "outer": 3, "inner": 2, "batch_real": 8},
    "cafe": {
        "iterations": 6,
        "batch_real": 8,
        "query": 4,
        "window": 2,
        "max_outer": 2,
        "max_inner": 2,
        "weights": [1, 1],
    },
    "idm": {
        "iterations": 6,
        "batch_real": 8,
        "queue": 2,
        "begin": 1,
        "push_every": 2,
        "train_steps": 1,
        "batch_train": 8,
    },
    "dream": {"iterations": 2, "inner": 3, "batch_real": 4, "train_images": 8, "cluster_every": 2, "candidates": 8},
    "ncfm": {"iterations": 6, "batch_real": 8, "pool": 1, "pretrain_epochs": 1, "frequencies": 8, "patience": 1},
    "dcc": {"iterations": 2, "outer": 3, "inner": 2, "batch_real": 8, "warmup_outer": 2, "warmup_iterations": 1},
    "ftd": {**TRAJECTORIES, "ema": 0.5},
    "datm": {**TRAJECTORIES, "init": "real", "first_max_start_epoch": None, "threshold": None},
}


class Killer(Reporter):
    """Stops the process, as Ctrl-C would, when a matching loop says that many steps are done."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.told: list[int] = []

    @contextlib.contextmanager
    def task(self, description, total=None):
        def advance(done, total=None, figures=None):
            if description.startswith("matching"):
                self.told.append(done)
                if done == self.at:
                    raise KeyboardInterrupt

        yield advance


@pytest.mark.parametrize("method", METHODS)
def test_kill_and_resume(ctx, digits, tmp_path, monkeypatch, method):
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "0")

    def run(name, at=0):
        reporter = Killer(at)
        mine = replace(ctx, store=Store(tmp_path / name), reporter=reporter, _dataset=digits)
        mine = replace(mine, explicit={"method": {"network": "convnet-1"} | METHODS[method]})
        try:
            return distil(prepare_method(mine, method, 1, 0)).digest, reporter.told
        except KeyboardInterrupt:
            return "", reporter.told

    undisturbed, told = run("undisturbed")
    assert told == [1, 2, 3, 4, 5, 6]
    assert run("killed", at=5) == ("", [1, 2, 3, 4, 5])
    resumed, told = run("killed")
    assert told == [4, 5, 6]  # step 4 was the last one in a checkpoint
    assert resumed == undisturbed
