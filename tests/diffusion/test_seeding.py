from __future__ import annotations

import pytest
import torch
from ddbench_plugins.training.seeding import batch_indices, make_generator, stream_seed


@pytest.mark.parametrize(("count", "batch"), [(10, 5), (10, 4), (3, 8)])
def test_every_item_is_drawn_once_per_epoch(count: int, batch: int) -> None:
    drawn = torch.cat([batch_indices(count, batch, step, seed=1) for step in range(count)])  # batch epochs exactly
    assert len(drawn) == count * batch
    for epoch in drawn.reshape(batch, count):
        assert sorted(epoch.tolist()) == list(range(count))


def test_batches_depend_on_seed_and_step_only() -> None:
    assert torch.equal(batch_indices(100, 8, 3, seed=0), batch_indices(100, 8, 3, seed=0))
    assert not torch.equal(batch_indices(100, 8, 3, seed=0), batch_indices(100, 8, 3, seed=1))
    with pytest.raises(ValueError, match="nothing"):
        batch_indices(0, 8, 0, seed=0)


def test_streams_of_different_places_differ() -> None:
    seeds = {stream_seed(0, "a", 1), stream_seed(0, "a", 2), stream_seed(0, "b", 1), stream_seed(1, "a", 1)}
    assert len(seeds) == 4
    first, second = torch.rand(4, generator=make_generator(0, "x")), torch.rand(4, generator=make_generator(0, "x"))
    assert torch.equal(first, second)
