"""The compiled kernel gives the numbers and gradients of PyTorch's own, and is used only where asked for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from ddbench_plugins.networks import native
from ddbench_plugins.networks.norms import InstanceNorm

needs_compiler = pytest.mark.skipif(native.compiled() is None, reason="no C compiler")


def tensors(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=generator) * 2 + 3).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, shape[1], generator=generator)
    return x, weight, bias, torch.randn(shape, generator=generator).to(dtype)


@needs_compiler
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("shape", [(3, 128, 16, 16), (2, 5, 7, 3), (4, 1, 4, 4), (2, 33, 1, 9)])
def test_values_and_gradients(shape, dtype, tolerance):
    x, weight, bias, grad = (tensor.requires_grad_() for tensor in tensors(shape, dtype))
    with native.kernels():
        assert native.fits(x)
        y = native.instance_norm(x, weight, bias, 1e-5)
    found = [y, *torch.autograd.grad(y, (x, weight, bias), grad)]
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    wanted = F.instance_norm(exact[0], weight=exact[1], bias=exact[2], eps=1e-5)
    for a, b in zip(found, [wanted, *torch.autograd.grad(wanted, exact, grad.double())], strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads():
    x, weight, bias, grad = (tensor.requires_grad_() for tensor in tensors((7, 16, 8, 8), torch.bfloat16))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with native.kernels():
                y = native.instance_norm(x, weight, bias, 1e-5)
            found.append([y, *torch.autograd.grad(y, (x, weight, bias), grad)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@needs_compiler
def test_only_where_asked_for_and_possible():
    norm = InstanceNorm(8)
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert not native.fits(x)
    slope = torch.autograd.grad(norm(x).pow(2).sum(), x, create_graph=True)[0]
    torch.autograd.grad(slope.sum(), x)  # outside, gradients of gradients exist
    with native.kernels():
        assert "_InstanceNorm" in norm(x).grad_fn.name()
        assert not native.fits(x.detach().contiguous())
        assert not native.fits(x.double())
        assert not native.fits(x[:0])
    assert not native.fits(x)


def test_without_a_compiler_the_norm_works(monkeypatch):
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    native.compiled.cache_clear()
    try:
        with native.kernels():
            x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
            assert not native.fits(x)
            assert torch.allclose(InstanceNorm(8)(x), F.instance_norm(x), atol=1e-6)
    finally:
        native.compiled.cache_clear()
