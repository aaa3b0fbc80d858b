"""Turns of trainings that use all cores of a machine: processes that would fight for them work one after the other.

The threads of a convolution's gradient spin until all of them have come (oneDNN's barrier). Where two trainings share
the cores, a thread spins while the one it waits for is not running, and both take several times as long as in turns.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

#: How long a turn lasts, in seconds. Short turns show that both go on; each change costs a few milliseconds.
HELD = 1.0

#: Whoever has waited so long, in seconds, does not wait again: the other is suspended, or its steps are that long.
PATIENCE = 120.0


class Turns:
    """The turns of this process with others of the same place.

    Two locks, so that they alternate: whoever waits for the turn holds ``next``, and who has just had a turn must get
    that first. The system frees the locks of a process that ends, however it does.

    Args:
        place: how the files of the locks begin; None, and nobody waits.
    """

    def __init__(self, place: Path | None) -> None:
        from filelock import FileLock

        self._locks = [FileLock(f"{place}-{name}.lock") for name in ("next", "turn")] if place else []
        self._since = 0.0
        self._depth = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn; :meth:`pass_on` in between lets others have theirs."""
        self._depth += 1
        try:
            if self._depth == 1:
                self._take()
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._give()

    def pass_on(self) -> None:
        """Let others have their turn, where this one has lasted long enough."""
        if self._locks and time.monotonic() - self._since >= HELD:
            self._give()
            self._take()

    def _take(self) -> None:
        if self._locks:
            following, turn = self._locks
            try:
                with following.acquire(timeout=PATIENCE, poll_interval=0.002):
                    turn.acquire(timeout=PATIENCE, poll_interval=0.002)
            except OSError:  # too long, or a file of somebody else
                self._locks = []
            self._since = time.monotonic()

    def _give(self) -> None:
        for lock in self._locks[1:]:
            lock.release()


def turns(device: str) -> Turns:
    """Return the turns of this process: of a training on the CPU whose threads take more than half of its cores.

    Processes of one run, which work in step, take none.
    """
    import torch

    from ddbench_plugins.executors.local import cores

    alone = torch.device(device).type == "cpu" and 2 * torch.get_num_threads() > cores()
    return _of_this_process() if alone and os.environ.get("WORLD_SIZE", "1") == "1" else Turns(None)


@cache
def _of_this_process() -> Turns:
    user = os.getuid() if hasattr(os, "getuid") else "all"
    return Turns(Path(tempfile.gettempdir()) / f"ddbench-{user}")
