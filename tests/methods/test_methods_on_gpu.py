"""Methods that optimise pixels on a pretended GPU: on one device, with the numbers of the CPU, without waiting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.runtime.machine import Machine
from ddbench.runtime.store import Store
from ddbench.testing.diffusion import tiny_pipeline
from ddbench.testing.toy import toy_dataset

pytest.importorskip("torch")
from pretended_gpu import pretended

PIXELS = {"network": "convnet-1", "batch_real": 5}
#: By method: the option that says how many steps there are, and others.
METHODS = {
    "dm": ("iterations", PIXELS),
    "dsa": ("iterations", {**PIXELS, "outer": 2, "inner": 2}),
    "idm": ("iterations", {**PIXELS, "factor": 2, "push_every": 2, "train_steps": 1, "batch_train": 8}),
    "dsac": ("iterations", {**PIXELS, "outer": 2, "inner": 2, "warmup_outer": 0}),
    "idc": ("iterations", {**PIXELS, "inner": 2, "train_images": 10}),
    "mtt": (
        "iterations",
        {
            "network": "convnet-1",
            "experts": 1,
            "train_epochs": 1,
            "max_start_epoch": 1,
            "expert_epochs": 1,
            "syn_steps": 2,
            "lr_img": 1.0,
        },
    ),
    "sre2l": ("iterations", {"network": "convnet-1-bn", "chunk": 3}),
}
#: Whose steps copy what they draw one by one, and read their loss.
WAITING = {
    "frepo": ("iterations", {"network": "frepo-convnet-3-bn-w32", "batch_real": 6, "pool": 2, "updates": 2}),
    "rfad": ("iterations", {"depth": 2, "networks": 2, "width": 8, "batch_real": 6, "check": 0}),
    "cafe": (
        "iterations",
        {**PIXELS, "query": 4, "window": 2, "max_outer": 2, "max_inner": 2, "weights": [1, 1]},
    ),
    "sldd": ("iterations", {"network": "mlp", "batch_real": 9, "augment": True, "shuffle_steps": True}),
    "rtp": ("iterations", {"network": "convnet-1", "inner": 2, "bases": 2, "batch_syn": 2, "batch_real": 4}),
}


@pytest.fixture
def distilled(ctx, tmp_path, monkeypatch):
    """Return a function that distils toy images in so many steps, anew, and returns the images."""
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "1000")  # which is a wait, but not of a step
    data, runs = toy_dataset(per_class=6, channels=3), iter(range(100))

    def run(name, steps, device="cuda", **more):
        option, options = {**METHODS, **WAITING}[name]
        options = {**options, **more}
        mine = replace(ctx, _dataset=data, machine=Machine(device, "fp32", offline=True))
        mine = replace(mine, store=Store(tmp_path / str(next(runs))))
        mine = replace(mine, explicit={"method": {**options, option: steps}})
        return distil(prepare_method(mine, name, 1, 0)).content.images.astype(np.float64)

    return run


@pytest.mark.parametrize("name", [*METHODS, *WAITING])
def test_methods_make_the_images_of_the_cpu(distilled, name):
    wanted = distilled(name, 4, "cpu")
    with pretended() as gpu:
        found = distilled(name, 4)
    assert gpu.launches > 100
    # Adam's steps are as long for the smallest gradients, of which rounding decides the sign.
    apart = 0.1 if name == "sre2l" else 1e-3
    assert np.linalg.norm(found - wanted) <= apart * np.linalg.norm(wanted - wanted.mean())


def test_vlcp_makes_the_images_of_the_cpu_from_encoding_to_synthesis(distilled, tmp_path, monkeypatch):
    model = tiny_pipeline(tmp_path / "model")
    options = {"backbone": str(model), "acceptance": "never", "finetune_epochs": 1}
    monkeypatch.setitem(METHODS, "vlcp", ("steps", options))
    wanted = distilled("vlcp", 4, "cpu")
    with pretended() as gpu:
        found = distilled("vlcp", 4)
    assert gpu.launches > 1000
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("name", METHODS)
def test_no_step_makes_the_host_wait(distilled, name):
    with pretended() as gpu:
        cost = gpu.cost_of_a_step(lambda steps: distilled(name, steps))
    assert cost.waits == {}


@pytest.mark.filterwarnings("error:Steps run without a CUDA graph")
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("dm", 15),  # a new network, a graph of all classes, a step of SGD
        ("dsa", 45),  # two steps in turn: a graph of each class, two of the network's training
        ("mtt", 35),  # two graphs of each of two steps, an expert's ends, images and learning rate
    ],
)
def test_steps_that_come_again_are_graphs(distilled, name, most):
    with pretended() as gpu:
        cost = gpu.cost_of_a_step(lambda steps: distilled(name, steps, augment="none"))
    assert cost.launches <= most
