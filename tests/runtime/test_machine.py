"""What a machine can be asked to compute in."""

from __future__ import annotations

import pytest
import torch
from pretended_gpu import pretended

from ddbench.errors import UsageError
from ddbench.experiment.pipeline import prepare_method
from ddbench.runtime import environment, machine
from ddbench.runtime.machine import Machine


def test_fp16_is_refused_where_it_cannot_be_trained_in():
    with pytest.raises(UsageError, match="fp16 are done on CUDA GPUs only") as caught:
        Machine.choose("cpu", "fp16")
    assert "bf16 or fp32" in caught.value.hint


def test_fp16_is_taken_on_a_gpu(monkeypatch, kept_flags):
    monkeypatch.setattr(machine, "_try", lambda device: None)
    assert Machine.choose("cuda:1", "fp16").numerics() == {"device": "cuda", "precision": "fp16"}


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="Unknown precision 'fp8'"):
        Machine.choose("cpu", "fp8")


@pytest.mark.parametrize(
    "method",
    [
        "dc",
        "dsa",
        "dcc",
        "dsac",
        "dm",
        "idm",
        "ncfm",
        "cafe",
        "it-gan",
        "idc",
        "idc-1",
        "dream",
        "mtt",
        "ftd",
        "datm",
        "sre2l",
        "cda",
        "dwa",
        "delt",
        "g-vbsm",
        "edc",
    ],
)
def test_methods_that_optimise_pixels_refuse_fp16(method, ctx, digits):
    ctx._dataset = digits
    prepare_method(ctx, method, 1, 0)
    ctx.machine = Machine("cuda", "fp16")
    with pytest.raises(UsageError, match=f"Method {method} cannot be computed in fp16"):
        prepare_method(ctx, method, 1, 0)
    prepare_method(ctx, "random", 1, 0)


@pytest.fixture
def kept_flags():
    """Put back what choosing a GPU changes in this process."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark
    yield
    products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark = before
    torch.use_deterministic_algorithms(False)


def test_tf32_is_a_precision_of_gpus(monkeypatch, kept_flags):
    monkeypatch.setattr(machine, "_try", lambda device: None)
    with pytest.raises(UsageError, match="tf32 are done on CUDA GPUs only"):
        Machine.choose("cpu", "tf32")
    for precision in ("tf32", "fp32", "bf16"):
        assert Machine.choose("cuda", precision).numerics() == {"device": "cuda", "precision": precision}
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert flags == (precision == "tf32",) * 2
        assert torch.backends.cudnn.benchmark and not torch.are_deterministic_algorithms_enabled()


def test_same_digits_every_time_are_asked_for_and_in_the_keys_of_gpus_only(monkeypatch, kept_flags):
    monkeypatch.setattr(machine, "_try", lambda device: None)
    here = Machine("cpu").numerics()
    monkeypatch.setenv("DDBENCH_DETERMINISTIC", "1")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert Machine.choose("cuda", "bf16").numerics()["deterministic"] == "yes"
    assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert Machine("cpu").numerics() == here


def test_records_name_the_card():
    assert environment.card("cpu") == {}
    with pretended():
        described = environment.card.__wrapped__("cuda:0")["gpu"]
    assert described["name"] == "pretended GPU" and described["cuda"] == (torch.version.cuda or "")
