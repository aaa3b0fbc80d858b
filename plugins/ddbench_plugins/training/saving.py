"""When and where loops keep their state between interruptions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Largest share of the time that goes into keeping states: those of large models take long to write.
SHARE = 0.05


class Checkpoint(Protocol):
    """Where the state of an interrupted loop lives; a :class:`ddbench.Step` is one.

    ``save`` must be atomic. States are nested dicts and lists of tensors and plain values, so that
    ``torch.load(weights_only=True)`` reads them.
    """

    def load(self) -> dict[str, Any] | None:
        """Return the newest state, or None."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a state in place of the one before."""


class Saving:
    """Says when a loop should keep its state: every so many seconds of work, and rarely where that takes long.

    Args:
        checkpoint: where; None keeps nothing.
        seconds: of work that a kill may cost.
    """

    def __init__(self, checkpoint: Checkpoint | None, seconds: float) -> None:
        self.checkpoint, self.seconds = checkpoint, seconds
        self._last, self._took = time.monotonic(), 0.0

    def due(self) -> bool:
        """Return whether it is time to keep the state."""
        if self.checkpoint is None:
            return False
        wait = max(self.seconds, self._took / SHARE) if self.seconds else 0.0  # 0: after every step
        return time.monotonic() - self._last >= wait

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the state."""
        if self.checkpoint is None:
            return
        began = time.monotonic()
        self.checkpoint.save(state)
        self._last = time.monotonic()
        self._took = self._last - began
