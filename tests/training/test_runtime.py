import pytest
import torch
from ddbench_plugins.networks import convnet
from ddbench_plugins.training import memory, runtime


def network(norm="instance"):
    return convnet.build(in_channels=3, image_size=32, num_classes=10, norm=norm)


IMAGE = torch.zeros(2, 3, 32, 32)


def test_operation_counts_follow_the_layers():
    multiply_adds = 32**2 * 27 * 128 + (16**2 + 8**2) * 9 * 128**2 + 20_480
    assert runtime.forward_flops(network(), IMAGE[:1]) == 2 * multiply_adds


def test_short_runs_are_not_compiled(monkeypatch):
    monkeypatch.setattr(runtime.compiler, "has_cxx", lambda: True)
    plain = network()
    assert runtime.compile_if_worth_it(plain, IMAGE, 1000, "auto") is plain
    assert runtime.compile_if_worth_it(plain, IMAGE, 10**9, "never") is plain


def test_long_runs_are_compiled_where_it_pays(monkeypatch):
    monkeypatch.setattr(runtime.compiler, "has_cxx", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module.__call__)

    def compiled(plain):
        return runtime.compile_if_worth_it(plain, IMAGE, 100_000, "auto") is not plain

    assert compiled(network("group")) and not compiled(network("batch"))
    for kernel, expected in ((None, True), (object(), False)):  # instance norm has a kernel where there is a C compiler
        monkeypatch.setattr(runtime.native, "compiled", lambda dtype, kernel=kernel: kernel)
        assert compiled(network()) == expected


def test_without_a_compiler_the_network_runs_as_it_is(monkeypatch):
    monkeypatch.setattr(runtime.compiler, "has_cxx", lambda: False)
    plain = network()
    assert runtime.compile_if_worth_it(plain, IMAGE, 10**9, "always") is plain


def test_a_failing_compiler_is_no_error(monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("no")

    monkeypatch.setattr(runtime.compiler, "has_cxx", lambda: True)
    monkeypatch.setattr(torch, "compile", fail)
    plain = network()
    with pytest.warns(UserWarning, match="RuntimeError"):
        assert runtime.compile_if_worth_it(plain, IMAGE, 10**9, "always") is plain


def test_precision_is_chosen_by_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    assert runtime.resolve_precision("auto", "cpu") == "fp32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert runtime.resolve_precision("auto", "cpu") == "bf16"
    assert runtime.resolve_precision("fp32", "cpu") == "fp32"
    assert runtime.resolve_precision("auto", "meta") == "fp32"


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_the_allocator_hint_is_optional(monkeypatch, error):
    def missing(_name):
        raise error

    memory.keep_freed_memory.cache_clear()
    monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    assert memory.keep_freed_memory() is False
    memory.keep_freed_memory.cache_clear()
