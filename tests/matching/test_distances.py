"""Distances of gradients (Zhao et al. 2021, utils.py; Kim et al. 2022, condense.py)."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.distances import METRICS, distance  # noqa: E402


def _gradients(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3, 3, 3), (4,), (2, 5, 5), (6, 8), (6,)]  # convolution, bias, layer norm, linear, bias
    return [torch.randn(shape, generator=generator) for shape in shapes]


A, B = _gradients(0), _gradients(1)


@pytest.mark.parametrize("metric", METRICS)
def test_a_gradient_has_no_distance_to_itself_and_some_to_another(metric):
    assert float(distance(metric, A, A)) == pytest.approx(0, abs=1e-5)
    assert float(distance(metric, A, B)) > 0.1
    assert float(distance(metric, A, B)) == pytest.approx(float(distance(metric, B, A)))


def test_rows_by_hand():
    def row(a, b):
        return 1 - float(a @ b) / (float(a.norm() * b.norm()) + 1e-6)

    wanted = sum(
        row(x.flatten(), y.flatten())
        for a, b in zip(A, B, strict=True)
        if a.ndim > 1
        for x, y in zip(a, b, strict=True)
    )
    assert float(distance("rows", A, B)) == pytest.approx(wanted, rel=1e-5)


def test_rows_do_not_see_scale_or_vectors():
    scaled = [3.0 * b for b in B]
    assert float(distance("rows", A, scaled)) == pytest.approx(float(distance("rows", A, B)), rel=1e-4)
    other = [b if b.ndim > 1 else b + 100 for b in B]
    assert torch.equal(distance("rows", A, other), distance("rows", A, B))
    assert float(distance("mse", A, other)) > float(distance("mse", A, B)) + 1000


def test_rows_of_zeros_have_a_distance_and_a_gradient():
    zero = [torch.zeros(2, 3, requires_grad=True)]
    found = distance("rows", [torch.ones(2, 3)], zero)
    assert float(found.detach()) == 2
    found.backward()
    assert torch.isfinite(zero[0].grad).all()


def test_the_others_by_hand():
    a, b = (torch.cat([x.flatten() for x in side]) for side in (A, B))
    assert float(distance("mse", A, B)) == pytest.approx(float((a - b).square().sum()), rel=1e-5)
    assert float(distance("l1", A, B)) == pytest.approx(float((a - b).abs().sum()), rel=1e-5)
    cosine = torch.cosine_similarity(a, b, dim=0)
    assert float(distance("cos", A, B)) == pytest.approx(1 - float(cosine), rel=1e-4)
    one = (A[0] - B[0]).abs().mean((1, 2, 3)).sum()
    assert float(distance("l1_mean", A[:1], B[:1])) == pytest.approx(float(one), rel=1e-5)
