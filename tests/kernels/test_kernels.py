"""Kernels of infinitely wide networks, and ridge regression with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddbench.errors import DataError, DivergedError

torch = pytest.importorskip("torch")
from ddbench_plugins.kernels.fully_connected import BIAS, WEIGHT, Kernel  # noqa: E402
from ddbench_plugins.kernels.ridge import block_size, centred, regularised, solve  # noqa: E402

#: Made once with neural-tangents 0.6.5 in float64: dense layers with ReLU between, W_std² = 2, b_std² = 0.01.
REFERENCE = np.load(Path(__file__).with_name("infinite_fc.npz"))
KERNELS = [Kernel(kind, depth) for kind in ("nngp", "ntk") for depth in (1, 2)]


def _images(count, size=12, seed=0):
    return torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_equal_those_of_neural_tangents(kernel):
    found = kernel(torch.from_numpy(REFERENCE["x"]), torch.from_numpy(REFERENCE["z"])).numpy()
    assert np.abs(found - REFERENCE[f"{kernel.kind}{kernel.depth}"]).max() < 1e-12


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_is_symmetric_positive_definite_and_has_the_diagonal_of_the_recursion(kernel):
    x = _images(9)
    matrix = kernel(x, x)
    assert float((matrix - matrix.T).abs().max()) < 1e-13
    assert float(torch.linalg.eigvalsh(matrix).min()) > 0
    nngp = ntk = WEIGHT * x.square().mean(1) + BIAS
    for _ in range(kernel.depth):
        nngp = WEIGHT * nngp / 2 + BIAS
        ntk = nngp + ntk  # the slope at an angle of 0 is 1/2
    assert float((matrix.diagonal() - (ntk if kernel.kind == "ntk" else nngp)).abs().max()) < 1e-12


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_those_of_differences_also_where_images_are_equal_or_opposite(kernel):
    x = _images(3)
    z = torch.cat([_images(2, seed=1), x[:1]])
    assert torch.autograd.gradcheck(lambda a: kernel(a, z[:2]), x.requires_grad_(), eps=1e-6, atol=1e-9)
    (slope,) = torch.autograd.grad(kernel(x, torch.cat([z, -z])).sum() + kernel(x, x).sum(), x)
    assert bool(slope.isfinite().all())


def test_one_hot_labels_are_centred():
    assert centred(torch.tensor([1]), 4).tolist() == [[-0.25, 0.75, -0.25, -0.25]]


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_ridge_the_regression_returns_its_own_targets(kernel):
    x, y = _images(8), _images(8, 3, seed=2)
    matrix = kernel(x, x)
    assert float((matrix @ solve(regularised(matrix, 1e-14), y) - y).abs().max()) < 1e-9


def test_one_image_gives_the_scalar_formula():
    x, z, kernel = _images(1), _images(5, seed=1), Kernel()
    y = torch.tensor([[0.5, -0.5]], dtype=torch.float64)
    own = float(kernel(x, x))
    found = kernel(z, x) @ solve(regularised(kernel(x, x), 0.25), y)
    assert torch.allclose(found, kernel(z, x) / (1.25 * own) @ y, rtol=1e-13)


def test_the_order_of_the_images_does_not_matter():
    x, y, z, kernel = _images(7), _images(7, 3, seed=1), _images(4, seed=2), Kernel(depth=2)

    def predict(order):
        return kernel(z, x[order]) @ solve(regularised(kernel(x[order], x[order]), 1e-6), y[order])

    assert torch.allclose(predict(torch.arange(7)), predict(torch.arange(6, -1, -1)), atol=1e-10)


def test_the_ridge_is_relative_to_the_mean_diagonal_or_divided_by_the_number_of_images():
    matrix = torch.diag(torch.tensor([2.0, 4.0], dtype=torch.float64))
    assert regularised(matrix, 0.1).diagonal().tolist() == pytest.approx([2.3, 4.3])
    assert regularised(matrix, 0.1, absolute=True).diagonal().tolist() == pytest.approx([2.05, 4.05])


def test_singular_and_infinite_matrices_are_refused_by_name():
    x = _images(3).repeat(2, 1)
    with pytest.raises(DataError, match="The kernel matrix of 6 images is singular"):
        solve(torch.ones(6, 6, dtype=torch.float64), x)
    with pytest.raises(DivergedError, match="is not finite"):
        solve(torch.full((2, 2), torch.nan, dtype=torch.float64), x[:2])
    with pytest.raises(DivergedError, match="is 0"):
        solve(torch.zeros(2, 2, dtype=torch.float64), x[:2])


def test_equal_images_are_no_error_with_the_ridge():
    x = _images(3).repeat(2, 1)
    matrix = Kernel()(x, x)
    assert bool(solve(regularised(matrix, 1e-6), centred(torch.arange(6), 6)).isfinite().all())


def test_blocks_are_bounded_by_the_images_as_by_the_kernel():
    assert block_size(torch.empty(10, 2**11)) == 2**10
    assert block_size(torch.empty(2**15, 2)) == 2**6
    assert block_size(torch.empty(1, 2**22)) == 1
