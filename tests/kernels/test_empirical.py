"""The tangent kernel of finite networks, and the learning rate that follows from it."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from ddbench_plugins.kernels import empirical  # noqa: E402
from ddbench_plugins.kernels.empirical import empirical_ntk, largest_rate  # noqa: E402
from ddbench_plugins.kernels.fully_connected import Kernel  # noqa: E402
from ddbench_plugins.networks import gaussian  # noqa: E402

import ddbench  # noqa: E402


class _Linear(torch.nn.Module):
    """K outputs W x of images, with no bias."""

    def __init__(self, size, outputs):
        super().__init__()
        self.weight = torch.nn.Linear(size, outputs, bias=False)

    def forward(self, x):
        return self.weight(x.flatten(1))


def _images(*rows):
    return torch.tensor(rows, dtype=torch.float32)[:, None, None, :]


def test_of_a_linear_network_it_is_the_product_of_the_images():
    """∂(Σ_k f_k / √K)/∂W_k = x / √K for each of the K rows, so Θ = Σ_k x·x′ / K = x·x′."""
    x = _images([3.0, 0.0], [0.0, 2.0], [1.0, 1.0])
    found = empirical_ntk(_Linear(2, 5), x)
    assert found == pytest.approx(torch.tensor([[9.0, 0, 3], [0, 4, 2], [3, 2, 2]], dtype=torch.float64))
    assert found.dtype == torch.float64


def test_the_largest_rate_by_hand():
    """Images (3, 0) and (0, 2): eigenvalues 9 and 4, so 2·n·K/λ = 2·2·5/9, and 1.9 times that with momentum 0.9."""
    kernel = empirical_ntk(_Linear(2, 5), _images([3.0, 0.0], [0.0, 2.0]))
    assert largest_rate(kernel, 5) == pytest.approx(20 / 9)
    assert largest_rate(kernel, 5, 0.9) == pytest.approx(1.9 * 20 / 9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_descent_is_stable_just_below_it_and_not_just_above(momentum):
    x, y = _images([3.0, 0.0], [0.0, 2.0]), torch.tensor([[0.5, -0.5], [-0.5, 0.5]])
    left = []
    for share in (0.98, 1.02):
        torch.manual_seed(0)
        network = _Linear(2, 2)
        rate = share * largest_rate(empirical_ntk(network, x), 2, momentum)
        optimiser = torch.optim.SGD(network.parameters(), rate, momentum=momentum)
        for _ in range(2000):
            optimiser.zero_grad()
            loss = (network(x) - y).square().mean() / 2
            loss.backward()
            optimiser.step()
        left.append(float(loss.detach()))
    assert left[0] < 1e-6
    assert not left[1] < 1e3


@pytest.mark.parametrize("held", [1, 250, 2**28])
def test_blocks_of_images_change_nothing(held, monkeypatch):
    torch.manual_seed(0)
    network = gaussian.build(in_channels=3, image_size=8, num_classes=4, width=2, prepended=True)
    x = torch.randn(5, 3, 8, 8)
    rows = []
    for image in x:
        network.zero_grad()
        (network(image[None]).sum() / 2).backward()
        rows.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    monkeypatch.setattr(empirical, "HELD", held)
    network.zero_grad()
    found = empirical_ntk(network, x)
    torch.testing.assert_close(found, (torch.stack(rows) @ torch.stack(rows).T).double(), rtol=1e-4, atol=1e-4)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_of_a_wide_network_it_is_nearly_the_exact_one():
    """The NTK parametrisation scales gradients of weights by √(2/fan-in), of biases by 0.1: here by hand."""
    torch.manual_seed(0)
    wide, size = 4096, 12
    first, last = torch.nn.Linear(size, wide), torch.nn.Linear(wide, 10)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.own = torch.nn.ParameterList(
                torch.nn.Parameter(torch.randn_like(p)) for p in (first.weight, first.bias, last.weight, last.bias)
            )

        def forward(self, x):
            a, b, c, d = self.own
            hidden = (x.flatten(1) @ a.T * math.sqrt(2 / size) + 0.1 * b).relu()
            return hidden @ c.T * math.sqrt(2 / wide) + 0.1 * d

    x = torch.randn(4, 1, 3, 4)
    exact = Kernel("ntk", 1)(x.flatten(1).double(), x.flatten(1).double())
    assert torch.linalg.norm(empirical_ntk(Net(), x) - exact) < 0.1 * torch.linalg.norm(exact)


@pytest.mark.parametrize("kernel", [torch.zeros(2, 2).double(), torch.full((2, 2), math.nan).double()])
def test_no_rate_follows_from_nothing(kernel):
    with pytest.raises(ddbench.DivergedError, match="no rate follows"):
        largest_rate(kernel, 3)
