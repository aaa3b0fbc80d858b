"""The compiled kernel gives the numbers and gradients of PyTorch's own, and is used only where asked for."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from ddbench_plugins.networks import native
from ddbench_plugins.networks.convnet import build
from ddbench_plugins.networks.norms import InstanceNorm
from ddbench_plugins.training.runtime import autocast

from ddbench import compiler

needs_compiler = pytest.mark.skipif(bool(compiler.obstacle()), reason=compiler.obstacle())


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
        assert native.fits(x, weight, bias)
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
    x = torch.randn(2, 8, 4, 4).requires_grad_()

    def fits(x, norm=norm, **how):
        return native.fits(x, norm.weight, norm.bias, **how)

    assert not fits(x)
    slope = torch.autograd.grad(norm(x).pow(2).sum(), x, create_graph=True)[0]
    torch.autograd.grad(slope.sum(), x)  # outside, gradients of gradients exist
    with native.kernels():
        assert "_InstanceNorm" in norm(x).grad_fn.name()
        assert norm(x).is_contiguous(memory_format=torch.channels_last)
        assert not fits(x.double()) and not fits(x[:0])
        assert fits(x, pooled=True) and not fits(torch.cat([x, x[:, :, :1]], 2), pooled=True)
        assert not fits(x.bfloat16(), InstanceNorm(8).bfloat16()) and not fits(x, InstanceNorm(8).double())
    assert not fits(x)


@needs_compiler
@pytest.mark.parametrize("kernel", [native.instance_norm, native.norm_relu_pool])
def test_what_is_not_a_number_is_not_hidden(kernel):
    x, weight, bias, _ = tensors((2, 3, 4, 4), torch.float32)
    x[1, 2, 0, 0] = float("nan")
    x.requires_grad_()
    with native.kernels():
        y = kernel(x, weight, bias, 1e-5)
    assert y[1, 2].isnan().all() and y[0].isfinite().all() and y[1, :2].isfinite().all()
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope[1, 2].isnan().all() and slope[0].isfinite().all()


@needs_compiler
def test_large_and_flat_images_lose_nothing():
    x, weight, bias, grad = tensors((1, 4, 224, 224), torch.float32)
    x[:, 1] = 0.7
    with torch.no_grad():
        weight[1], bias[1] = 1, 0
    x.requires_grad_()
    with native.kernels():
        y = native.instance_norm(x, weight, bias, 1e-5)
    exact = x.detach().double().requires_grad_()
    wanted = norm(exact, weight.double(), bias.double())
    assert (y - wanted).abs().amax() < 1e-4
    found, sought = torch.autograd.grad(y, x, grad)[0], torch.autograd.grad(wanted, exact, grad.double())[0]
    assert (found - sought).norm() < 1e-5 * sought.norm()


@needs_compiler
def test_gradients_reach_a_weight_that_is_part_of_a_tensor():
    x, _, bias, grad = tensors((2, 4, 4, 4), torch.float32)

    def second(run, *inputs):
        x, whole, bias = (tensor.detach().requires_grad_() for tensor in inputs)
        first = torch.autograd.grad(run(x, whole[::2], bias), x, grad.to(x.dtype), create_graph=True)[0]
        return torch.autograd.grad(first.square().sum(), whole)[0]

    whole = torch.randn(8, generator=torch.Generator().manual_seed(3))
    with native.kernels():
        found = second(partial(native.instance_norm, eps=1e-5), x, whole, bias)
    torch.testing.assert_close(
        found.double(), second(norm, x.double(), whole.double(), bias.double()), rtol=1e-4, atol=1e-5
    )


@needs_compiler
def test_third_derivatives_are_refused():
    x, weight, bias, grad = (tensor.requires_grad_() for tensor in tensors((2, 3, 4, 4), torch.float32))
    with native.kernels():
        y = native.instance_norm(x, weight, bias, 1e-5)
    first = torch.autograd.grad(y, x, grad, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="third derivatives"):
        torch.autograd.grad(second.square().sum(), weight)


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_convnet_is_the_same_network_with_them(precision):
    torch.manual_seed(0)
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
            assert (a - b).norm() <= (2e-5 if precision == "fp32" else 0.2) * b.norm()
    assert not build(in_channels=3, image_size=16, num_classes=4, pooling="max").fusible


def test_without_a_compiler_the_norm_works(monkeypatch):
    monkeypatch.setattr(compiler, "obstacle", lambda: "there is no C compiler")
    for cached in (native.compiled, native._tell):
        cached.cache_clear()
    try:
        with native.kernels():
            x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
            with pytest.warns(UserWarning, match="Without compiled kernels, for there is no C compiler"):
                assert not native.fits(x, torch.ones(8), torch.zeros(8))
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # said once
                assert not native.fits(x.bfloat16(), torch.ones(8), torch.zeros(8))
            assert torch.allclose(InstanceNorm(8)(x), F.instance_norm(x), atol=1e-6)
    finally:
        native.compiled.cache_clear()
