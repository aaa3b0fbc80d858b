"""`ddbench cache`: what the artifact folder holds, and removing what no run needs."""

from __future__ import annotations

import click


@click.group("cache", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show where finished steps are cached, their size by kind, and what interrupted runs left behind.

    Every step of a run (teachers, latents, models, distilled sets, students) is kept and reused by whatever depends on
    the same. The folder is DDBENCH_HOME, or the user's cache. Any step may be deleted; a run makes it again.

    \b
    Examples:
      ddbench cache                         sizes by kind, leftovers
      ddbench cache clean --dry-run         what would be removed
      ddbench cache clean --older-than 0    leftovers of every age, also of runs stopped today
    """
    if context.invoked_subcommand is not None:
        return
    from ddbench.files.writing import home
    from ddbench.runtime.leftovers import kinds, leftovers
    from ddbench.runtime.progress import size

    root = home()
    click.echo(f"{root}")
    steps = kinds(root)
    for kind in steps:
        click.echo(f"  {kind.name:<20} {kind.count:>6}  {size(kind.bytes):>10}")
    if not steps:
        click.echo("  no finished step yet")
    else:
        click.echo(f"  {'all':<20} {sum(k.count for k in steps):>6}  {size(sum(k.bytes for k in steps)):>10}")
    if left := leftovers(root):
        click.echo(
            f"{len(left)} leftover(s) of interrupted or repeated runs, {size(sum(one.bytes for one in left))}:"
            " `ddbench cache clean --dry-run` lists them"
        )


@command.command("clean")
@click.option(
    "--older-than", "days", type=click.FloatRange(min=0), default=7.0, show_default=True, metavar="DAYS",
    help="Keep interrupted work that changed since: the same command would resume it.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
def clean(days: float, dry_run: bool) -> None:
    """Remove what repeated runs replaced, and interrupted work that was never resumed.

    Finished steps are never removed, nor anything that a process is using or that ddbench did not make.
    """
    from ddbench.files.writing import home
    from ddbench.runtime.leftovers import DAY, leftovers, remove
    from ddbench.runtime.progress import size

    freed = count = 0
    for leftover in leftovers(home()):
        if leftover.resumes and leftover.age < days * DAY:
            click.echo(f"kept     {leftover.path}  stopped {leftover.age / DAY:.1f} days ago, {size(leftover.bytes)}")
            continue
        if dry_run or remove(leftover):
            freed, count = freed + leftover.bytes, count + 1
            click.echo(f"{'would be removed' if dry_run else 'removed'}  {leftover.path}  {size(leftover.bytes)}")
    click.echo(f"{size(freed)} in {count} folder(s){' would be freed' if dry_run else ' freed'}")
