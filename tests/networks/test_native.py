"""The compiled kernel gives the numbers and gradients of PyTorch's own, and is used only where asked for."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from ddbench_plugins.networks import native
from ddbench_plugins.networks.convnet import build
from ddbench_plugins.networks.norms import InstanceNorm
from ddbench_plugins.training.runtime import autocast

needs_compiler = pytest.mark.skipif(native.compiled() is None, reason="no C compiler")


def tensors(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=generator) * 2 + 3).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, shape[1], generator=generator)
    return x, weight, bias, torch.randn(shape, generator=generator).to(dtype)


def norm(x, weight, bias):
    return F.instance_norm(x, weight=weight, bias=bias, eps=1e-5)


def norm_relu_pool(x, weight, bias):
    return F.avg_pool2d(F.relu(norm(x, weight, bias)), 2)


KERNELS = [
    *[(native.instance_norm, norm, shape) for shape in [(3, 128, 16, 16), (2, 5, 7, 3), (4, 1, 4, 4), (2, 33, 1, 9)]],
    *[(native.norm_relu_pool, norm_relu_pool, shape) for shape in [(3, 128, 16, 16), (2, 5, 4, 6), (4, 1, 2, 2)]],
]


@needs_compiler
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize(("kernel", "reference", "shape"), KERNELS)
def test_values_and_gradients(kernel, reference, shape, dtype, tolerance):
    x, weight, bias, _ = (tensor.requires_grad_() for tensor in tensors(shape, dtype))
    with native.kernels():
        assert native.fits(x)
        y = kernel(x, weight, bias, 1e-5)
    grad = tensors(y.shape, dtype)[-1]
    found = [y, *torch.autograd.grad(y, (x, weight, bias), grad)]
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    wanted = reference(*exact)
    for a, b in zip(found, [wanted, *torch.autograd.grad(wanted, exact, grad.double())], strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)


@needs_compiler
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 1.5e-2)])
@pytest.mark.parametrize(("kernel", "reference", "shape"), KERNELS)
@pytest.mark.parametrize("asked", [(0, 1, 2), (0,), (1,), (2,)], ids=["all", "x", "weight", "bias"])
def test_gradients_of_gradients(kernel, reference, shape, dtype, tolerance, asked):
    x, weight, bias, _ = (tensor.requires_grad_() for tensor in tensors(shape, dtype))
    grad = tensors(reference(x, weight, bias).shape, dtype)[-1].requires_grad_()
    directions = [torch.randn(t.shape, generator=torch.Generator().manual_seed(1)) for t in (x, weight, bias)]

    def second(norm, inputs, dy):
        first = torch.autograd.grad(norm(*inputs), inputs, dy, create_graph=True)
        along = sum((first[i] * directions[i].to(first[i].dtype)).sum(dtype=torch.float64) for i in asked)
        return torch.autograd.grad(along, (inputs[0], inputs[1], dy), materialize_grads=True)

    with native.kernels():
        found = second(partial(kernel, eps=1e-5), (x, weight, bias), grad)
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias, grad)]
    wanted = second(reference, exact[:3], exact[3])
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads():
    x, weight, bias, grad = (tensor.requires_grad_() for tensor in tensors((7, 16, 8, 8), torch.bfloat16))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with native.kernels():
                y = native.instance_norm(x, weight, bias, 1e-5)
            first = torch.autograd.grad(y, (x, weight, bias), grad, create_graph=True)
            found.append([y, *first, *torch.autograd.grad(first[0].square().sum(), (x, weight, grad))])
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
        assert native.fits(x, pooled=True) and not native.fits(torch.cat([x, x[:, :, :1]], 2), pooled=True)
    assert not native.fits(x)


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_convnet_is_the_same_network_with_them(precision):
    network = build(in_channels=3, image_size=16, num_classes=4, width=24)
    x = torch.randn(5, 3, 16, 16).contiguous(memory_format=torch.channels_last)

    def found():
        with autocast(precision, "cpu"):
            loss = network(x).float().logsumexp(1).sum()
        first = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), list(network.parameters()))
        return [torch.cat([g.detach().flatten() for g in gradients]) for gradients in (first, second)]

    wanted = found()
    with native.kernels():
        for a, b in zip(found(), wanted, strict=True):
            assert (a - b).norm() <= (2e-5 if precision == "fp32" else 0.05) * b.norm()
    assert not build(in_channels=3, image_size=16, num_classes=4, pooling="max").fusible


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
