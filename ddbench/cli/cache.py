"""`ddbench cache`: what the artifact folder holds, and removing what no run needs or what is not wanted any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from ddbench.cli import common
from ddbench.errors import UsageError, unknown

if TYPE_CHECKING:
    import os

    from ddbench.runtime.leftovers import Finished

dry_run_option = click.option("--dry-run", is_flag=True, help="Only list what would be removed.")


@click.group("cache", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show where finished steps are cached, their size by kind and data set, and what interrupted runs left behind.

    Every step of a run (teachers, latents, models, distilled sets, students) is kept and reused by whatever depends on
    the same. The folder is DDBENCH_HOME, or the user's cache. Any step may be deleted; a run makes it again.

    \b
    Examples:
      ddbench cache                                    sizes, leftovers
      ddbench cache clean --dry-run                    what would be removed
      ddbench cache clean --older-than 0               leftovers of every age, also of runs stopped today
      ddbench cache prune --older-than 90              finished steps that no run used for 90 days
      ddbench cache prune --dataset cifar10 --dry-run  what is kept of a data set
    """
    if context.invoked_subcommand is not None:
        return
    from ddbench.files.writing import home
    from ddbench.runtime.leftovers import finished, leftovers
    from ddbench.runtime.progress import size

    root = home()
    click.echo(f"{root}")
    if not (steps := finished(root)):
        click.echo("  no finished step yet")
    else:
        click.echo(common.aligned([*_sums(steps, lambda step: step.kind), ("all", *_sum(steps))]))
        click.echo("by data set")
        click.echo(common.aligned(_sums(steps, lambda step: step.dataset or "of none, or not known")))
    if left := leftovers(root):
        click.echo(
            f"{len(left)} leftover(s) of interrupted or repeated runs, {size(sum(one.bytes for one in left))}:"
            " `ddbench cache clean --dry-run` lists them"
        )


def _sums(steps: Iterable[Finished], by: Callable[[Finished], str]) -> list[tuple[str, str, str]]:
    """Return names with how many steps each has and their size, the largest first."""
    from ddbench.runtime.leftovers import together

    groups: dict[str, list[Finished]] = defaultdict(list)
    for step in steps:
        groups[by(step)].append(step)
    largest = sorted(groups, key=lambda name: (-together(groups[name]), name))
    return [(name, *_sum(groups[name])) for name in largest]


def _sum(steps: list[Finished]) -> tuple[str, str]:
    from ddbench.runtime.leftovers import together
    from ddbench.runtime.progress import size

    return str(len(steps)), size(together(steps))


@command.command("clean")
@click.option(
    "--older-than", "days", type=click.FloatRange(min=0), default=7.0, show_default=True, metavar="DAYS",
    help="Keep interrupted work that changed since: the same command would resume it.",
)  # fmt: skip
@dry_run_option
def clean(days: float, dry_run: bool) -> None:
    """Remove what repeated runs replaced, interrupted work that was never resumed, and old folders of workers' runs.

    Finished steps are never removed, nor anything that a process is using or that ddbench did not make.
    """
    from ddbench.files.writing import home
    from ddbench.runtime.leftovers import DAY, files, leftovers, remove
    from ddbench.runtime.progress import size

    gone: list[os.stat_result] = []
    count = 0
    for leftover in leftovers(home()):
        if leftover.resumes and leftover.age < days * DAY:
            click.echo(f"kept     {leftover.path}  stopped {leftover.age / DAY:.1f} days ago, {size(leftover.bytes)}")
            continue
        held = files(leftover.path)
        if dry_run or remove(leftover):
            gone, count = gone + held, count + 1
            click.echo(f"{'would be removed' if dry_run else 'removed'}  {leftover.path}  {size(leftover.bytes)}")
    _freed(gone, count, dry_run)


@command.command("prune")
@click.option(
    "--older-than", "days", type=click.FloatRange(min=0), metavar="DAYS", help="Only what no run used for so long."
)
@common.listed("-d", "--dataset", help="Only what was made for these data sets.")
@common.listed("--step", "kinds", help="Only these kinds of steps, as `ddbench cache` names them.")
@dry_run_option
def prune(days: float | None, dataset: list[str] | None, kinds: list[str] | None, dry_run: bool) -> None:
    """Remove finished steps by age, data set or kind; a run that needs one makes it again.

    What a running process uses and folders with files that ddbench did not write are kept. Records stay: they are in
    registries.
    """
    from ddbench.files.writing import home
    from ddbench.runtime.leftovers import DAY, files, finished
    from ddbench.runtime.leftovers import prune as remove
    from ddbench.runtime.progress import size
    from ddbench.runtime.uses import used

    if days is None and not (dataset or kinds):
        raise UsageError("Nothing says what to remove.", hint="Give --older-than, --dataset or --step.")
    root = home()
    steps = finished(root)
    for what, given, known in (
        ("data set in the cache", dataset, {step.dataset for step in steps} - {""}),
        ("kind of steps", kinds, {step.kind for step in steps}),
    ):
        for name in given or []:
            if name not in known:
                raise unknown(what, name, known)
    in_use = used(root)
    gone: list[os.stat_result] = []
    count = 0
    for step in steps:
        if days is not None and step.unused < days * DAY:
            continue
        if step.dataset not in (dataset or [step.dataset]) or step.kind not in (kinds or [step.kind]):
            continue
        if step.path in in_use or not step.ours:
            why = "a running process uses it" if step.path in in_use else "it holds files that ddbench did not write"
            click.echo(f"kept     {step.path}  {why}")
            continue
        held = files(step.path)
        if dry_run or remove(root, step):
            gone, count = gone + held, count + 1
            click.echo(f"{'would be removed' if dry_run else 'removed'}  {step.path}  {size(step.bytes)}")
    _freed(gone, count, dry_run)


def _freed(gone: list[os.stat_result], count: int, dry_run: bool) -> None:
    from ddbench.runtime.leftovers import freed
    from ddbench.runtime.progress import size

    click.echo(f"{size(freed(gone))} in {count} folder(s){' would be freed' if dry_run else ' freed'}")
