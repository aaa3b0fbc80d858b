"""A context that runs nothing: it finds the steps that are there and stops where work would begin."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from ddbench.errors import DataError
from ddbench.keys import digest
from ddbench.plugin.stages import Effort
from ddbench.runtime.context import Context
from ddbench.runtime.progress import Advance
from ddbench.runtime.store import Done, Step

DONE, RESUMABLE, TO_DO = "done", "resumable", "to do"


class NotYet(DataError):
    """Something is asked for that only a run will make."""


@dataclass(frozen=True)
class Seen:
    """A step that a run would use.

    Attributes:
        name, key: of the step.
        state: one of ``done``, ``resumable`` and ``to do``.
        inputs: what it depends on.
        effort: what its time grows with, where its plugin says so.
        spent: seconds of work that are in a stopped one.
    """

    name: str
    key: str
    state: str
    inputs: Mapping[str, Any]
    effort: Effort | None
    spent: float = 0.0


class Later:
    """Stands for a step that is not there: its key is known, what it holds is not."""

    def __init__(self, name: str, key: str) -> None:
        self.name, self.key, self.reused = name, key, False

    def __getattr__(self, name: str) -> Any:
        raise NotYet(f"the step {self.name} has not been made yet")


@dataclass
class Rehearsal(Context):
    """A context whose steps are looked up, never built.

    Attributes:
        seen: the steps that were asked for, in order; shared by every copy.
    """

    seen: list[Seen] = field(default_factory=list)

    @classmethod
    def of(cls, ctx: Context) -> Rehearsal:
        """Return a rehearsal in the place of a context."""
        return cls(**{each.name: getattr(ctx, each.name) for each in fields(ctx)})

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any],
        builder: Callable[[Step], None],
        *,
        force: bool = False,
        effort: Effort | None = None,
    ) -> Done:
        """Return the step if it is there, else something that only knows its key."""
        inputs = self.depends(inputs)
        key, done = digest(inputs), self.store.get(name, inputs)
        if all(each.key != key for each in self.seen):
            stopped = not done and self.store.started(name, inputs)
            state = DONE if done else RESUMABLE if stopped else TO_DO
            spent = self.store.spent(name, inputs) if stopped else 0.0
            self.seen.append(Seen(name, key, state, inputs, effort, spent))
        return done or cast(Done, Later(name, key))

    @contextlib.contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Refuse: whatever takes seconds says its progress.

        Raises:
            NotYet: always.
        """
        raise NotYet(f"work begins here: {description}")
        yield
