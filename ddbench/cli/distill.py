"""`ddbench distill`: distilled sets without evaluation."""

from __future__ import annotations

from typing import Any

import click

from ddbench.cli import common


@click.command("distill")
@common.listed("-m", "--method", required=True, help="Distillation methods.")
@common.dataset_option
@common.ipc_option
@common.seed_option
@common.preset_option
@click.option(
    "--out",
    default=None,
    metavar="DIR",
    help="Copy the sets into this folder, one sub-folder each (never overwrites).",
)
@common.set_option
@common.plugin_option
@common.machine_options
def command(**values: Any) -> None:
    """Distil, and print the folders of the distilled sets.

    A distilled set is a folder that can be read without ddbench: images in class folders, distilled.json, preview.png.

    \b
    Examples:
      ddbench distill --method vlcp --ipc 10
      ddbench distill -m random,vlcp --ipc 1,10 --seed 0,1,2 --out distilled
      ddbench evaluate distilled/digits-vlcp-ipc10-seed0 --eval rded
    """
    from ddbench import api

    shared = common.common_arguments(values)
    for dataset in common.check_datasets(values):
        made = api.distill(
            values["method"],
            dataset=dataset,
            ipc=values["ipc"],
            seed=values["seed"] or (),
            out=values["out"],
            **shared,
        )
        for loaded in made:
            about = loaded.about
            budget = "full" if about["ipc"] is None else about["ipc"]
            what = f"{about['dataset']['name']}  {about['method']['name']}  IPC {budget}  seed {about['seed']}"
            click.echo(f"{what}  {len(loaded.labels)} images  {common.written(loaded.path, values['out'])}")
