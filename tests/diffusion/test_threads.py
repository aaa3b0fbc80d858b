"""Results do not depend on which thread comes first, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.tensors import rows_of
from ddbench_plugins.methods import kmeans
from ddbench_plugins.training.augment import shift_with_zeros

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def four_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


def test_rows_chosen_several_times_add_up_their_gradients_in_one_order(four_threads: None) -> None:
    generator = torch.Generator().manual_seed(0)
    values, weights = torch.randn(31, 8, 64, generator=generator), torch.randn(64, 8, 64, generator=generator)
    chosen = torch.randint(31, (64,), generator=generator)

    def gradient() -> torch.Tensor:
        x = values.clone().requires_grad_()
        found = rows_of(x, chosen)
        assert torch.equal(found, x[chosen])
        (found * weights).sum().backward()
        assert x.grad is not None
        return x.grad

    wanted = torch.zeros_like(values)
    for row, weight in zip(chosen.tolist(), weights, strict=True):
        wanted[row] += weight
    assert all(torch.equal(gradient(), wanted) for _ in range(20))


def test_shifted_images_give_their_gradients_back_in_one_order(four_threads: None) -> None:
    """Only pixels of the border of zeros are read more than once, and its gradients are dropped."""
    generator = torch.Generator().manual_seed(0)
    images, weights = torch.randn(2, 64, 3, 32, 32, generator=generator)
    shifts = torch.randint(-8, 9, (2, 64), generator=generator)

    def gradient() -> torch.Tensor:
        x = images.clone().requires_grad_()
        (shift_with_zeros(x, *shifts) * weights).sum().backward()
        assert x.grad is not None
        return x.grad

    assert all(torch.equal(gradient(), shift_with_zeros(weights, *-shifts)) for _ in range(10))


def test_clusters_are_the_same_in_every_run() -> None:
    """Of more points than scikit-learn gives to one thread."""
    from threadpoolctl import threadpool_limits

    points = np.random.default_rng(0).standard_normal((2500, 16)).astype(np.float32)
    with threadpool_limits(4):
        found = {kmeans.cluster(points, 10, 0, 1).tobytes() for _ in range(5)}
    assert len(found) == 1
