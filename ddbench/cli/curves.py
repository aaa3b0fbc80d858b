"""`ddbench curves`: how test accuracy grew in training, and what a distillation's loop said."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("curves")
@click.argument("what", nargs=-1, required=True, metavar="RECORD|FOLDER …")
@click.option("--out", default="curves.png", show_default=True, metavar="FILE", help="The picture: .png, .svg or .pdf.")
def command(what: tuple[str, ...], out: str) -> None:
    """Draw the training curves of records: the mean over networks, and every network thin behind it.

    Of folders that hold metrics.jsonl (distilled sets, steps of the store), draw the loss and what else was told.

    \b
    Examples:
      ddbench curves registry/results/digits/*/ipc10-seed0-rded-*.json
      ddbench curves RECORD RECORD --out curves.pdf
      ddbench curves distilled/digits-sre2l-ipc10-seed0 --out loss.png
    """
    from ddbench.registry import read_good
    from ddbench.reports import curves, figures

    paths = [Path(name) for name in what]
    if any(path.is_dir() for path in paths):
        drawn = curves.draw_metrics(paths)
    else:
        drawn = curves.draw([read_good(path) for path in paths])
    figures.save(drawn, Path(out))
    click.echo(out)
