"""`ddbench status`: how the cells of a run are that workers run; the same is the display of the command itself."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common
from ddbench.errors import UsageError
from ddbench.escaping import one_line

if TYPE_CHECKING:
    from rich.console import Group

    from ddbench.experiment.queue import Queue, State

#: Rows of running and failed cells in a display that is redrawn.
ROWS = 15


@click.command("status")
@click.argument("run", required=False, metavar="[STUDY.toml | RUN]")
@click.option("--watch", is_flag=True, help="Show it until every cell has ended.")
@common.json_option
def command(run: str | None, watch: bool, as_json: bool) -> None:
    """Show every cell of a run by workers: waiting, running where, done with its accuracy, failed and why.

    Without an argument, the latest run. Nothing is changed, and the command may be ended at any time.

    \b
    Examples:
      ddbench status
      ddbench status study.toml --watch
    """
    queue = find(run)
    if watch and not as_json:
        with Display(queue, quiet=False) as display, contextlib.suppress(KeyboardInterrupt):
            while display.look():
                time.sleep(1)
    common.give(lambda: described(queue))
    show(queue)


def find(name: str | None) -> Queue:
    """Return the latest run of a study file, or the one of that name; the latest of all for None.

    Raises:
        UsageError: there is none.
    """
    from ddbench.experiment.queue import queues

    known = queues()
    path = str(Path(name).absolute()) if name else ""
    for queue in known:
        if name is None or queue.folder.name == name or queue.about["study"] == path:
            return queue
    listed = ", ".join(queue.folder.name for queue in known[:8])
    raise UsageError(
        f"Workers have not run {name}." if name else "Workers have not run anything yet.",
        hint=f"Runs: {listed}." if listed else "`ddbench run … --jobs 2` lets workers run the cells.",
    )


def described(queue: Queue) -> dict[str, Any]:
    """Return a run as plain data."""
    states = list(queue.states())
    cells = [
        {"cell": each.number, "title": each.title, "state": each.state, "log": str(each.log), **each.about}
        for each in states
    ]
    return {"run": str(queue.folder), **totals(queue, states), "cells": cells}


def totals(queue: Queue, states: list[State]) -> dict[str, Any]:
    """Return the numbers of cells by state, cells per hour and the seconds left, None where not known."""
    counts = Counter(state.state for state in states)
    spent = [state.about["seconds"] for state in states if state.state == "done"]
    left, running = counts["waiting"] + counts["running"], counts["running"]
    mean = sum(spent) / len(spent) if spent else None
    rate = 3600 * running / mean if mean and running else None
    return {
        **{name: counts[name] for name in ("waiting", "running", "done", "failed")},
        "cells_per_hour": rate and round(rate, 1),
        "seconds_left": round(3600 * left / rate) if rate else None,
    }


def show(queue: Queue) -> None:
    """Print every cell in one line."""
    states = list(queue.states())
    for state in states:
        click.echo(f"{state.number:5}  {state.state:7}  {one_line(state.title + said(state))}")
    click.echo(summed(totals(queue, states)))


def said(state: State) -> str:
    """Return what there is to say of a cell behind its title."""
    from ddbench.experiment.driver import last_line
    from ddbench.runtime.progress import duration

    about = state.about
    if state.state == "running":
        since = duration(max(0.0, time.time() - about["since"]))
        return f"  on {about['worker']} for {since}: {last_line(state.log) or 'nothing printed yet'}"
    if state.state == "done":
        return f"  {about['accuracy']} %"
    return f"  {about['message']} (log: {state.log})" if state.state == "failed" else ""


def summed(total: Mapping[str, Any]) -> str:
    """Return the totals in a line."""
    from ddbench.runtime.progress import duration

    counts = ", ".join(f"{total[name]} {name}" for name in ("done", "running", "waiting", "failed") if total[name])
    if total["seconds_left"] is None:
        return counts
    return f"{counts}; {total['cells_per_hour']:g} cells an hour, about {duration(total['seconds_left'])} left"


class Display:
    """Shows a run: a table that is redrawn on a terminal, a line for each cell that ends elsewhere."""

    def __init__(self, queue: Queue, *, quiet: bool) -> None:
        self.queue, self.quiet, self.started = queue, quiet, time.time()
        self._told = set(queue.outcomes())
        self._live: Any = None
        self._next = 0.0

    def __enter__(self) -> Display:
        if sys.stderr.isatty() and not self.quiet:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True, highlight=False), transient=True, auto_refresh=False)
            self._live.start()
        elif self._told:
            self.tell(f"{len(self._told)} of {len(self.queue.tasks)} cells have ended before")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def look(self) -> bool:
        """Show what has changed; return whether cells are left."""
        ended = self.queue.outcomes()
        if self._live and time.monotonic() >= self._next:
            begun = time.monotonic()
            self._live.update(self._table(), refresh=True)
            self._next = time.monotonic() + 20 * (time.monotonic() - begun)  # long tables are drawn less often
        for number in sorted(ended.keys() - self._told):
            self._told.add(number)
            about, title = ended[number], self.queue.tasks[number - 1].title
            failed = about["state"] == "failed"
            end = f"failed: {about['message']} (log: {self.queue.log(number)})" if failed else f"{about['accuracy']} %"
            if failed or not self._live:
                self.tell(f"[{len(self._told)}/{len(self.queue.tasks)}] {title}: {end}", always=failed)
        return len(ended) < len(self.queue.tasks)

    def tell(self, message: str, *, always: bool = False) -> None:
        """Print a line above the table."""
        if self._live:
            self._live.console.print(one_line(message), markup=False)
        elif always or not self.quiet:
            click.echo(one_line(message), err=True)

    def _table(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        states = list(self.queue.states())
        table = Table(box=None, pad_edge=False, show_header=False)
        for state in [state for state in states if state.state in ("running", "failed")][-ROWS:]:
            table.add_row(state.state, Text(one_line(state.title + said(state)), no_wrap=True, overflow="ellipsis"))
        return Group(table, Text(summed(totals(self.queue, states))))
