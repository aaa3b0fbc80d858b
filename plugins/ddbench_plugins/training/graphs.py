"""Whole training steps as CUDA graphs: hundreds of kernels are launched at once, and the host has nothing to do."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.training.numbers import unpacked

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.training.numbers import Layout

#: Steps of a layout that run as they are written: they make the optimiser's state, and libraries choose kernels.
WARM_UP = 2


class Graphs:
    """Runs ``step(*numbers)``; every layout of numbers that comes again gets a graph.

    All that differs between steps must be in their numbers, and what a step leaves behind in tensors that are there
    before it. Where a capture fails, steps run as they are written.
    """

    def __init__(self, step: Callable[..., None], optimiser: torch.optim.Optimizer) -> None:
        self.step, self.optimiser = step, optimiser
        self._seen: Counter[Layout] = Counter()
        self._captured: dict[Layout, tuple[Any, Tensor]] = {}
        self._pool: Any = None
        self._fails = False
        self._beside = torch.cuda.Stream()

    def __call__(self, layout: Layout, row: Tensor) -> None:
        """Do one step by the numbers in a row."""
        self._seen[layout] += 1
        if layout not in self._captured and self._seen[layout] > WARM_UP and not self._fails:
            self._capture(layout, row)
        if layout in self._captured:
            graph, given = self._captured[layout]
            given.copy_(row)
            graph.replay()
            return
        # Not on the stream on which graphs are launched, to which nothing that is captured may be bound.
        self._beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._beside):
            self.step(*unpacked(layout, row))
        torch.cuda.current_stream().wait_stream(self._beside)

    def _capture(self, layout: Layout, row: Tensor) -> None:
        graph, given = torch.cuda.CUDAGraph(), row.clone()
        try:
            # Graphs share memory: what is in it when one ends, none of them needs.
            with _capturable(self.optimiser), torch.cuda.graph(graph, pool=self._pool):
                self.step(*unpacked(layout, given))
        except RuntimeError as error:
            self._fails = True
            warnings.warn(f"Steps run without a CUDA graph, which takes longer: {error}", stacklevel=2)
            return
        self._pool = graph.pool()
        self._captured[layout] = graph, given


@contextmanager
def _capturable(optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Tell optimisers that ask for it that their step is captured; fused ones keep all of their state on the device."""
    before = [group.get("capturable") for group in optimiser.param_groups]
    for group, flag in zip(optimiser.param_groups, before, strict=True):
        group.update({} if flag is None else {"capturable": True})
    try:
        yield
    finally:
        for group, flag in zip(optimiser.param_groups, before, strict=True):
            group.update({} if flag is None else {"capturable": flag})
