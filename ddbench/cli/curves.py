"""`ddbench curves`: test accuracy over epochs or an option, and the losses of a distillation."""

from __future__ import annotations

from pathlib import Path

import click

from ddbench.cli import completion


@click.command("curves")
@click.argument("what", nargs=-1, required=True, metavar="RECORD|FOLDER …", shell_complete=completion.paths)
@click.option("--out", default="curves.png", show_default=True, metavar="FILE", help="The picture: .png, .svg or .pdf.")
@click.option(
    "--against",
    metavar="OPTION",
    default="",
    help="Draw final accuracy with its 95 % interval over an option of the methods, such as iterations.",
)
def command(what: tuple[str, ...], out: str, against: str) -> None:
    """Draw the training curves of records: the mean over networks, and each network as a thin line.

    For folders with a metrics.jsonl (distilled sets, cached steps), draw the loss and the other logged figures.

    With --against iterations and the records of a method's snapshots, draw accuracy over iterations. Methods without
    the option, such as random, are drawn as a horizontal line.

    \b
    Examples:
      ddbench curves registry/results/cifar10/rded/*-rded-*.json
      ddbench curves RECORD RECORD --out curves.pdf
      ddbench curves distilled/digits-sre2l-ipc10-seed0 --out loss.png
      ddbench curves registry/snapshots/results/cifar10/dm/*.json --against iterations
    """
    from ddbench.errors import UsageError
    from ddbench.figures import base as figures
    from ddbench.figures import curves, sweeps
    from ddbench.results.registry import read_good

    paths = [Path(name) for name in what]
    if against:
        if folders := [str(path) for path in paths if path.is_dir()]:
            raise UsageError(f"{folders[0]} is a folder: --against is for records.", hint="Name files of records.")
        lines, levels = sweeps.against([read_good(path) for path in paths], against)
        drawn = sweeps.draw({against: lines}, levels, width=5.2)
    elif any(path.is_dir() for path in paths):
        drawn = curves.draw_metrics(paths)
    else:
        drawn = curves.draw([read_good(path) for path in paths])
    figures.save(drawn, Path(out))
    click.echo(out)
