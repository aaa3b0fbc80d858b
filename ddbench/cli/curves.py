"""`ddbench curves`: how test accuracy grew in training."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("curves")
@click.argument("what", nargs=-1, required=True, metavar="RECORD …")
@click.option("--out", default="curves.png", show_default=True, metavar="FILE", help="The picture: .png, .svg or .pdf.")
def command(what: tuple[str, ...], out: str) -> None:
    """Draw the training curves of records: the mean over networks, and every network thin behind it.

    \b
    Examples:
      ddbench curves registry/results/digits/*/ipc10-seed0-rded-*.json
      ddbench curves RECORD RECORD --out curves.pdf
    """
    from ddbench.registry import read_good
    from ddbench.reports import curves, figures

    figures.save(curves.draw([read_good(Path(name)) for name in what]), Path(out))
    click.echo(out)
