"""A checkpoint in memory that stops what is kept in it, as a kill does, after so many states."""

from __future__ import annotations

import copy
from typing import Any


class Stopped(BaseException):
    """The work has been stopped."""


class Memory:
    """Keeps the newest state; after ``left`` of them, the work that keeps it is stopped."""

    def __init__(self, left: int, state: Any = None) -> None:
        self.left, self.state = left, state

    def load(self) -> Any:
        """Return the newest state."""
        return copy.deepcopy(self.state)

    def save(self, state: Any) -> None:
        """Keep a copy of a state, and stop."""
        self.state, self.left = copy.deepcopy(dict(state)), self.left - 1
        if not self.left:
            raise Stopped

    def again(self) -> Memory:
        """Return the same without an end."""
        return Memory(-1, self.state)


def stopped_after(states: int) -> Memory:
    """Return an empty checkpoint that stops the work after so many states."""
    return Memory(states)
