"""The one loop of all trainings and optimisations: resumed, reported, and ended where the loss is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from ddbench import DivergedError
from ddbench_plugins.training.memory import keep_freed_memory
from ddbench_plugins.training.turns import turns

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ddbench import Context
    from ddbench_plugins.training.runtime import Precision

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


class Work(Protocol):
    """What is done again and again. All randomness of a step must come from a seed and its number."""

    def step(self, number: int) -> Mapping[str, float]:
        """Do step ``number`` (from 0) and return its figures, all of which must stay finite."""

    def state(self) -> dict[str, Any]:
        """Return, between two steps, what a checkpoint needs: tensors and plain data."""

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from what :meth:`state` returned, and ``done``, the number of steps."""


class Functions(NamedTuple):
    """Work made of functions."""

    step: Callable[[int], Mapping[str, float]]
    state: Callable[[], dict[str, Any]]
    restore: Callable[[dict[str, Any]], None]


def silent(done: int, total: int, info: Any = None) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Loop:
    """How loops are run.

    Attributes:
        device, precision: where, and in what, forward passes are computed.
        checkpoint: where the state is kept.
        checkpoint_seconds: of work that a kill may cost.
        progress: gets steps done, steps in all, and the figures.
        saves: whether this process writes the state, which all those of a run read.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    checkpoint: Checkpoint | None = None
    checkpoint_seconds: float = 60.0
    progress: Callable[..., None] = silent
    saves: bool = True

    @classmethod
    def of(cls, ctx: Context, progress: Callable[..., None] = silent, checkpoint: Checkpoint | None = None) -> Self:
        """Return how a run does it; ``checkpoint`` is the step that is built, else that of the plugin's result."""
        machine = ctx.machine
        kept, seconds = checkpoint or ctx.checkpoint, ctx.checkpoint_seconds
        return cls(machine.device, machine.precision, kept, seconds, progress)

    def part(self, name: str) -> Self:
        """Return the same for one of several loops, which keep their states side by side."""
        return replace(self, checkpoint=self.checkpoint and Section(self.checkpoint, name))

    def autocast(self) -> AbstractContextManager[object]:
        """Return the mixed-precision context of forward passes."""
        from ddbench_plugins.training.runtime import autocast

        return autocast(self.precision, self.device)

    def run(
        self,
        work: Work,
        steps: int,
        *,
        name: str,
        hint: str = "Try a lower learning rate",
        every: int = 1,
        keep_end: bool = False,
        after: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Do ``steps`` steps, counted from the very beginning; a killed and resumed run ends with the same state.

        Args:
            work: what a step is.
            steps: how many in all.
            name: what the loss is of, for the user.
            hint: what helps against one that is not finite.
            every: report every so many steps.
            keep_end: keep the last state too.
            after: called with the number of steps done, after each; perhaps again where a run has resumed.

        Raises:
            DivergedError: the loss is not finite.
        """
        keep_freed_memory()
        state, first = self.checkpoint.load() if self.checkpoint else None, 0
        if state is not None:
            first = state["done"]
            work.restore(state)
            self.progress(first, steps)
        saving = Saving(self.checkpoint if self.saves else None, self.checkpoint_seconds)
        turn = turns(self.device)
        with turn.taken():
            for done in range(first + 1, steps + 1):
                figures = work.step(done - 1)
                if not all(map(math.isfinite, figures.values())):
                    raise DivergedError(
                        f"The loss of {name} is not finite in step {done} of {steps}.",
                        hint=f"{hint}, or --precision fp32.",
                    )
                if done % every == 0 or done == steps:
                    self.progress(done, steps, figures)
                after(done)
                if saving.due() if done < steps else keep_end:
                    saving.save({**work.state(), "done": done})
                turn.pass_on()


class Saving:
    """Says when a loop should keep its state: every so many seconds of work, and rarely where that takes long."""

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


class Section:
    """One named part of a checkpoint; parts finished earlier stay beside it, as they were."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint, self._name = checkpoint, name
        self._all: dict[str, Any] = checkpoint.load() or {}

    def load(self) -> dict[str, Any] | None:
        """Return the last state of this part."""
        return self._all.get(self._name)

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a state for this part."""
        self._all[self._name] = copied(state)
        self._checkpoint.save(self._all)


def copied(value: Any) -> Any:
    """Return ``value`` with every tensor copied to the CPU, so that later training does not change it."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [copied(item) for item in value]
    return value
