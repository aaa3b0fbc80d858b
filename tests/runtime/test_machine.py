"""What a machine can be asked to compute in."""

from __future__ import annotations

import pytest

from ddbench.errors import UsageError
from ddbench.experiment.pipeline import prepare_method
from ddbench.runtime import machine
from ddbench.runtime.machine import Machine


def test_fp16_is_refused_where_it_cannot_be_trained_in():
    with pytest.raises(UsageError, match="fp16 are done on CUDA GPUs only") as caught:
        Machine.choose("cpu", "fp16")
    assert "bf16 or fp32" in caught.value.hint


def test_fp16_is_taken_on_a_gpu(monkeypatch):
    monkeypatch.setattr(machine, "_try", lambda device: None)
    assert Machine.choose("cuda:1", "fp16").numerics() == {"device": "cuda", "precision": "fp16"}


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="Unknown precision 'fp8'"):
        Machine.choose("cpu", "fp8")


@pytest.mark.parametrize(
    "method", ["dc", "dsa", "dm", "idc", "idc-1", "mtt", "ftd", "datm", "sre2l", "cda", "dwa", "delt"]
)
def test_methods_that_optimise_pixels_refuse_fp16(method, ctx, digits):
    ctx._dataset = digits
    prepare_method(ctx, method, 1, 0)
    ctx.machine = Machine("cuda", "fp16")
    with pytest.raises(UsageError, match=f"Method {method} cannot be computed in fp16"):
        prepare_method(ctx, method, 1, 0)
    prepare_method(ctx, "random", 1, 0)
