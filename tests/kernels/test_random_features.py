"""Random ConvNets against the kernel of the infinitely wide one (Loo et al. 2022, RFAD)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from ddbench_plugins.kernels.random_features import RandomConvNets, features, nngp  # noqa: E402

#: Made once with neural-tangents 0.6.5 in float64: three blocks of convolution 3×3, ReLU, pooling, and a dense layer.
REFERENCE = np.load(Path(__file__).with_name("infinite_conv.npz"))
IMAGES = torch.from_numpy(REFERENCE["x"]).permute(0, 3, 1, 2)


def _error(width, count, seed):
    drawn = RandomConvNets(count, 3, width).draw(3, "cpu", seed)
    own, _ = nngp(drawn, IMAGES.float(), IMAGES[:1].float())
    exact = torch.from_numpy(REFERENCE["nngp"])
    return float((own - exact).norm() / exact.norm())


def test_the_kernel_comes_nearer_to_the_infinite_one_with_width_and_networks():
    narrow, wide, many = (np.mean([_error(w, n, seed) for seed in range(3)]) for w, n in ((16, 1), (256, 1), (256, 32)))
    assert many <= 0.05
    assert many < wide < narrow


def test_layers_follow_from_the_place_alone_and_have_the_variances_of_the_kernel():
    nets = RandomConvNets(2, 3, 64)
    first, again, other = nets.draw(3, "cpu", 1, 2), nets.draw(3, "cpu", 1, 2), nets.draw(3, "cpu", 1, 3)
    for (one, two), different in zip(zip(first, again, strict=True), other, strict=True):
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, two, strict=True))
        assert not torch.equal(one[0][0], different[0][0])
    weight, bias = first[0][2]
    assert float(weight.var()) == pytest.approx(2 / (9 * 64), rel=0.05)
    assert float(bias.var()) == pytest.approx(0.01, rel=0.6)
    assert features(first, torch.zeros(1, 3, 28, 28)).shape == (1, 2 * 64 * 9)


def test_both_kernels_are_one_kernel_and_gradients_flow_to_the_support_only(monkeypatch):
    drawn = RandomConvNets(2, 2, 8).draw(3, "cpu", 4)
    x = IMAGES.float().clone().requires_grad_()
    monkeypatch.setattr("ddbench_plugins.kernels.random_features.TOGETHER", 2)
    own, theirs = nngp(drawn, x, IMAGES.float())
    torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-6)
    (slope,) = torch.autograd.grad(theirs.sum(), x)
    assert bool(slope.isfinite().all()) and float(slope.abs().max()) > 0
