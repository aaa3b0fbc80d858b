"""What a run tells the person in front of it: progress, notes and warnings; plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ddbench.escaping import terminal

Thing = TypeVar("Thing")
#: What stands for an amount that nobody knows.
UNKNOWN = "unknown"


class Advance(Protocol):
    """Reports progress: ``advance(done, total, {"loss": 0.123})``."""

    def __call__(self, done: int, total: int | None = None, figures: Mapping[str, float] | None = None) -> None:
        """Say how much is done, and the figures of a loop by name."""


def shown(figures: Mapping[str, float] | None) -> str:
    """Return what the user sees of figures: four digits."""
    return ", ".join(f"{name} {value:.4g}" for name, value in (figures or {}).items())


class Reporter:
    """Says nothing: the default of the Python API."""

    def log(self, message: str) -> None:
        """Report a step taken."""

    def warn(self, message: str) -> None:
        """Report something the user should know; shown even when quiet."""
        import warnings

        warnings.warn(message, stacklevel=3)

    @contextlib.contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Show progress of one task while the block runs."""
        yield lambda done, total=None, figures=None: None


def numbered(reporter: Reporter, things: Sequence[Thing], title: Callable[[Thing], str]) -> Iterator[tuple[str, Thing]]:
    """Yield things with their place, ``[3/24]``, and say which one begins."""
    for number, thing in enumerate(things, 1):
        place = f"[{number}/{len(things)}]"
        reporter.log(f"{place} {title(thing)}")
        yield place, thing


class LineReporter(Reporter):
    """Plain lines on standard error, for logs and pipes: a line per task every ``interval`` seconds."""

    def __init__(self, interval: float = 10.0) -> None:
        self.interval = interval

    def log(self, message: str) -> None:
        """Print one line."""
        sys.stderr.write(f"{terminal(message)}\n")
        sys.stderr.flush()

    def warn(self, message: str) -> None:
        """Print one line."""
        self.log(f"warning: {message}")

    @contextlib.contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Print a line now and then, and one with the time at the end of anything over two seconds."""
        start = last = time.perf_counter()
        goal = total
        pace = Pace()

        def advance(done: int, total: int | None = None, figures: Mapping[str, float] | None = None) -> None:
            nonlocal last, goal
            goal = total or goal
            now = time.perf_counter()
            seconds = pace.left(now, done, goal)
            if now - last < self.interval:
                return
            last = now
            left = "" if seconds is None else f", about {duration(seconds)} left"
            text = shown(figures)
            self.log(f"  {description}: {done}{f'/{goal}' if goal else ''}{f' · {text}' if text else ''}{left}")

        yield advance
        spent = time.perf_counter() - start
        if spent > 2:
            self.log(f"  {description}: done in {duration(spent)}")


class Pace:
    """Estimates the time left from what this stretch of work has done so far.

    A resumed task begins in the middle, and one task may count several stretches one after the other; what came before
    nothing is known of its pace.
    """

    def __init__(self) -> None:
        self.began, self.first, self.last = 0.0, 0, -1

    def left(self, now: float, done: int, goal: int | None) -> float | None:
        """Return the seconds left at time ``now`` with ``done`` of ``goal`` done, or None while nobody can tell."""
        if self.last < 0 or done < self.last:
            self.began, self.first = now, done
        self.last = done
        if not goal or done <= self.first:
            return None
        return (now - self.began) * max(0, goal - done) / (done - self.first)


class BarReporter(LineReporter):
    """Progress bars on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self._progress: Any = None
        self._depth = 0

    def log(self, message: str) -> None:
        """Print one line above the bars."""
        self.console.print(terminal(message), markup=False)

    @contextlib.contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar that vanishes when the task ends; tasks may be nested."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._progress is None:
            self._progress = Progress(
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
                transient=True,
            )
            self._progress.start()
        bars = self._progress
        self._depth += 1
        bar = bars.add_task(description, total=total, figures="")

        def advance(done: int, total: int | None = None, figures: Mapping[str, float] | None = None) -> None:
            bars.update(bar, completed=done, figures=shown(figures), **({"total": total} if total else {}))

        start = time.perf_counter()
        try:
            yield advance
        finally:
            bars.remove_task(bar)
            self._depth -= 1
            if not self._depth:
                bars.stop()
                self._progress = None
        spent = time.perf_counter() - start
        if spent > 2:
            self.log(f"  {description}: done in {duration(spent)}")


def reporter(quiet: bool = False) -> Reporter:
    """Return bars on a terminal, plain lines elsewhere, warnings only when quiet."""
    if quiet:
        return QuietReporter()
    return BarReporter() if sys.stderr.isatty() else LineReporter()


class QuietReporter(Reporter):
    """Warnings on standard error, nothing else."""

    def warn(self, message: str) -> None:
        """Print one line."""
        sys.stderr.write(f"warning: {terminal(message)}\n")


def duration(seconds: float) -> str:
    """Write seconds, minutes or hours, whichever is read most easily."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: float | None) -> str:
    """Write bytes for people; below a megabyte, the exact number does not matter."""
    if count is None:
        return UNKNOWN
    if count < 1e6:
        return "under 1 MB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
