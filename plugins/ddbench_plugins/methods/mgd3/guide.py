"""The way to a mode: MGD3's guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ddbench_plugins.diffusion.ancestral import Guide

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ddbench_plugins.diffusion.ancestral import Moment


class Towards(Guide):
    """Leads images to ``targets`` [n, 4, h, w]: λ·σ·(m − x̂₀) in the steps of an index above ``last``.

    That is the paper's Algorithm 1; its equation 6, taken literally, leads away from the mode.
    """

    def __init__(self, targets: NDArray[np.float32], weight: float, last: int) -> None:
        self._targets, self._weight, self._last = targets, weight, last

    def acts(self, index: int) -> bool:
        """Return whether the step is one of the first."""
        return index > self._last

    def added(self, moment: Moment, rows: slice) -> Tensor:
        """Return a part of the way to the modes."""
        way = torch.from_numpy(self._targets[rows]).to(moment.clean) - moment.clean
        return self._weight * moment.deviation * way
