"""Siamese views: one draw for every batch and every image (Zhao and Bilen 2021, utils.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.draws import draw_view, strategy_for, unchanged  # noqa: E402
from ddbench_plugins.training.dsa import STRATEGY, STRATEGY_WITHOUT_FLIP  # noqa: E402


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(6, 3, 16, 16, generator=_generator(1))


@pytest.mark.parametrize("operator", STRATEGY)
@pytest.mark.parametrize("variant", ["dc", "idc"])
def test_a_view_does_the_same_to_equal_batches_and_to_every_image(operator, variant):
    changed = 0
    for seed in range(4):
        view = draw_view(16, _generator(seed), [operator], variant)
        assert torch.equal(view(X), view(X.clone()))
        same = view(X[:1].expand(5, 3, 16, 16))
        torch.testing.assert_close(same, view(X[:1]).expand_as(same))
        changed += not torch.equal(view(X), X)
    assert changed  # a mirror is there or is not


def test_views_differ_between_draws_and_none_are_drawn_from_nothing():
    generator = _generator()
    first, second = (draw_view(16, generator, ["rotate"])(X) for _ in range(2))
    assert not torch.allclose(first, second)
    assert draw_view(16, generator, ()) is unchanged
    assert unchanged(X) is X


def test_digits_are_never_mirrored(digits):
    assert strategy_for(digits) == STRATEGY_WITHOUT_FLIP
    assert strategy_for(replace(digits, flip=True)) == STRATEGY
