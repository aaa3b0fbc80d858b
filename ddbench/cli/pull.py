"""`ddbench pull`: distilled sets that `ddbench push` published."""

from __future__ import annotations

import click

from ddbench.cli import common, completion


@click.command("pull")
@click.argument("source", metavar="SOURCE", shell_complete=completion.paths)
@click.option(
    "--out", default="distilled", show_default=True, metavar="DIR", help="Folder for the sets (never overwrites)."
)
@click.option("--registry", default=None, metavar="DIR", help="Add the records that were published with the sets.")
@common.offline_option
@common.quiet_option
def command(source: str, out: str, registry: str | None, offline: bool, quiet: bool) -> None:
    """Bring distilled sets that ddbench published, each as the folder that was pushed.

    SOURCE is hf:USER/REPO[@REVISION][:CONFIG], or a local copy of such a repository; all its sets without a
    configuration. `ddbench import` reads the sets of others.

    \b
    Examples:
      ddbench pull hf:me/digits-vlcp
      ddbench pull hf:me/digits-vlcp@main:ipc10-seed0 --out pulled
    """
    from ddbench import api
    from ddbench.runtime.progress import reporter

    for made in api.pull(source, out=out, registry=registry, offline=offline, reporter=reporter(quiet)):
        click.echo(f"set      {common.written(made.path, out)}")
