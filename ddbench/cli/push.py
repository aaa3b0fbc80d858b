"""`ddbench push`: distilled sets on the Hugging Face hub."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

import click

from ddbench.cli import common, completion


@click.command("push")
@click.argument("sets", nargs=-1, required=True, metavar="SET …", shell_complete=completion.paths)
@click.option("--to", "repo", required=True, metavar="hf:USER/REPO", help="Repository of data sets on the hub.")
@click.option(
    "--licence", required=True, metavar="ID", help="Licence of the sets, as the hub names it: cc-by-4.0, mit, …"
)
@click.option("--out", default=None, metavar="DIR", help="Write the repository to this new folder instead of the hub.")
@click.option("--dry-run", is_flag=True, help="List what would go up, and upload nothing.")
@click.option("--private", is_flag=True, help="Let only its owner see a repository that is new.")
@common.registry_option
@common.plugin_option
@common.offline_option
@common.json_option
def command(**values: Any) -> None:
    """Publish distilled sets, the folders SET, on the Hugging Face hub: one configuration per IPC and seed.

    Each goes up as parquet files with the names of its classes, and as it is; with a card, its records and their
    accuracies, and metadata in Croissant. The login is huggingface_hub's: `hf auth login`.

    \b
    Examples:
      ddbench push distilled/digits-vlcp-ipc10-seed0 --to hf:me/digits-vlcp --licence cc-by-4.0 --dry-run
      ddbench push distilled/digits-vlcp-ipc10-seed0 --to hf:me/digits-vlcp --licence cc-by-4.0 --out upload
    """
    from ddbench import api

    named = ("sets", "repo", "licence", "out", "dry_run", "private", "registry", "plugins")
    done = api.push(**{name: values[name] for name in named})
    common.give(lambda: asdict(done))
    for name, size in done.files:
        click.echo(f"{size:>12,}  {name}")
    total = f"{len(done.files)} files, {sum(size for _, size in done.files):,} bytes"
    repo = values["repo"]
    if values["dry_run"]:
        click.echo(f"{total} would go to {repo}.")
    elif values["out"]:
        place = shlex.quote(values["out"])
        click.echo(
            f"{total} → {place}; `hf upload {repo.removeprefix('hf:')} {place} --repo-type dataset` brings them up."
        )
    else:
        click.echo(f"{total} → {repo}@{done.commit}")
