"""Whole training steps as CUDA graphs: hundreds of kernels are launched at once, and the host has nothing to do."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.training.numbers import moved_rows, unpacked

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.training.numbers import Layout

#: Steps of a layout that run as they are written: they make the optimiser's state, and libraries choose kernels.
WARM_UP = 2
#: Layouts that are looked out for; where more come, the others hardly come again.
MOST_LAYOUTS = 96


class Graphs:
    """Runs ``step(*numbers)``; every layout of numbers that comes again gets a graph.

    All that differs between steps must be in their numbers, and what a step leaves behind in tensors that are there
    before it. Where a capture fails, steps run as they are written.
    """

    def __init__(self, step: Callable[..., None], optimiser: torch.optim.Optimizer | None = None) -> None:
        self.step, self.optimiser = step, optimiser
        self._seen: Counter[Layout] = Counter()
        self._captured: dict[Layout, tuple[Any, Tensor]] = {}
        self._pool: Any = None
        self._fails = False
        self._beside = torch.cuda.Stream()

    def __call__(self, layout: Layout, row: Tensor) -> None:
        """Do one step by the numbers in a row."""
        if layout in self._seen or len(self._seen) < MOST_LAYOUTS:
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


class Steps:
    """Does ``step(*numbers)`` for one numbers of the host after the other: as graphs on a GPU, else as it is written.

    What :class:`Graphs` says of a step holds; ``captured`` off, it is run as it is written on a GPU as well.
    """

    def __init__(
        self,
        step: Callable[..., None],
        device: torch.device | str,
        optimiser: torch.optim.Optimizer | None = None,
        *,
        captured: bool = True,
    ) -> None:
        self.step, self.device = step, torch.device(device)
        on_gpu = self.device.type == "cuda"
        self._run: Callable[[Layout, Tensor], None] | None = None
        if on_gpu:
            self._run = Graphs(step, optimiser) if captured else lambda layout, row: step(*unpacked(layout, row))

    def __call__(self, numbers: Iterable[tuple[Any, ...]]) -> None:
        """Do the steps."""
        if self._run is None:
            for each in numbers:
                self.step(*each)
            return
        for layout, row in moved_rows(numbers, self.device):
            self._run(layout, row)


@contextmanager
def _capturable(optimiser: torch.optim.Optimizer | None) -> Iterator[None]:
    """Tell optimisers that ask for it that their step is captured; fused ones keep all of their state on the device."""
    groups = optimiser.param_groups if optimiser else []
    before = [group.get("capturable") for group in groups]
    for group, flag in zip(groups, before, strict=True):
        group.update({} if flag is None else {"capturable": True})
    try:
        yield
    finally:
        for group, flag in zip(groups, before, strict=True):
            group.update({} if flag is None else {"capturable": flag})
