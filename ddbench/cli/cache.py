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

    root = home()
    click.echo(f"{root}")
    found = kinds(root)
    for kind in found:
        click.echo(f"  {kind.name:<20} {kind.count:>6}  {text(kind.bytes):>10}")
    if not found:
        click.echo("  no finished step yet")
    else:
        click.echo(f"  {'all':<20} {sum(k.count for k in found):>6}  {text(sum(k.bytes for k in found)):>10}")
    if left := leftovers(root):
        click.echo(
            f"{len(left)} leftover(s) of interrupted or repeated runs, {text(sum(each.bytes for each in left))}:"
            " `ddbench cache clean --dry-run` lists them"
        )


@command.command("clean")
@click.option(
    "--older-than", "days", type=click.FloatRange(min=0), default=7.0, show_default=True, metavar="DAYS",
    help="Keep stopped work that changed since: the same command would go on with it.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def clean(days: float, dry_run: bool) -> None:
    """Remove what repeated runs replaced, and stopped work that nobody went on with.

    Finished steps are never removed, nor anything that a process is using or that ddbench did not make.
    """
    from ddbench.files.writing import home
    from ddbench.runtime.leftovers import DAY, leftovers, remove

    freed = count = 0
    for each in leftovers(home()):
        if each.resumes and each.age < days * DAY:
            click.echo(f"kept     {each.path}  stopped {each.age / DAY:.1f} days ago, {text(each.bytes)}")
            continue
        if dry_run or remove(each):
            freed, count = freed + each.bytes, count + 1
            click.echo(f"{'would be removed' if dry_run else 'removed'}  {each.path}  {text(each.bytes)}")
    click.echo(f"{text(freed)} in {count} folder(s){' would be freed' if dry_run else ' freed'}")


def text(count: float) -> str:
    """Return a number of bytes in words."""
    from ddbench.cli.plan import size

    return size(count)
