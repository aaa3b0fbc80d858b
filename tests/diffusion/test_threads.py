"""Results do not depend on which thread comes first, however many there are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.small.training import train_small_pipeline
from ddbench_plugins.diffusion.tensors import rows_of
from ddbench_plugins.methods import kmeans
from ddbench_plugins.training.augment import shift_with_zeros
from test_small import NAMES, TEXTS, TINY
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


class RepeatedRows(TorchDispatchMode):
    """Notes every sum of float32 values into places that are named more than once, whose order threads would choose."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if "index_put" in function.name() and len(arguments) > 3 and arguments[3]:
            places = [place.flatten() for place in torch.broadcast_tensors(*(i for i in arguments[1] if i is not None))]
            self.found += torch.stack(places).unique(dim=1).shape[1] < len(places[0])
        return function(*arguments, **(keywords or {}))


def test_the_small_model_is_trained_without_sums_whose_order_threads_choose(tmp_path: Path) -> None:
    with RepeatedRows() as plain:
        values = torch.randn(3, 2, requires_grad=True)
        values[torch.tensor([0, 0, 1])].sum().backward()
    assert plain.found == 1  # what is looked for is seen
    preset = replace(TINY, vae_steps=1, unet_steps=2, unet_batch=16)
    images, labels = np.zeros((8, 16, 16, 3), np.uint8), np.arange(8) % 2
    with RepeatedRows() as seen:
        train_small_pipeline(images, labels, NAMES, TEXTS, preset, tmp_path, seed=0)
    assert seen.found == 0


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
