"""`ddbench evaluate`: distilled sets from folders or files, under any protocol."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common, completion
from ddbench.cli.run import show
from ddbench.errors import UsageError

if TYPE_CHECKING:
    from ddbench.results.schema import Record


@click.command("evaluate")
@click.argument("paths", nargs=-1, required=True, metavar="SOURCE …", shell_complete=completion.paths)
@common.listed("-e", "--eval", "evaluator", required=True, help="Evaluation protocols.")
@common.dataset_option
@click.option("--name", default="", help="Name of the method in records (default: the folder's).")
@common.foreign_options
@common.network_option
@click.option("--evaluation-seed", type=int, default=0, show_default=True, help="Base seed of the students.")
@common.repeats_option
@common.preset_option
@common.set_option
@common.plugin_option
@common.registry_option
@common.machine_options
@common.notes_option
@common.json_option
def command(**values: Any) -> None:
    """Evaluate distilled sets: those that ddbench wrote, pictures in class folders, or the tensors of released code.

    Class folders are matched by id or name, never by position. `ddbench import --help` lists the formats.

    \b
    Examples:
      ddbench evaluate distilled/digits-vlcp-ipc10-seed0 --eval rded
      ddbench evaluate distilled/cifar10-dm-ipc1-seed0/snapshots/* --eval dc -o eval.augment=dsa
      ddbench evaluate hf:me/digits-vlcp:ipc10-seed0 --eval rded
      ddbench evaluate minimax_nette_10/ --eval minimax --dataset imagenette --name minimax-authors
      ddbench evaluate res_DM_CIFAR10_ConvNet_10ipc.pt -e dc -d cifar10 --space normalised --run -1 --name dm-authors
    """
    from ddbench import api
    from ddbench.sets import sources

    started = time.time()
    datasets = values["dataset"] or [""]
    if len(datasets) > 1:
        raise UsageError("A distilled set belongs to one data set.", hint="Name just one with --dataset.")
    paths: tuple[str, ...] = values["paths"]
    for path in paths[1:]:  # the first one says more of itself if it is not there; a typo in the last costs no hours
        if not sources.exists(path):
            raise UsageError(f"There is no {path!r}.", hint="Name folders or files of distilled sets.")
    records: list[Record] = []
    for path in paths:
        records += api.evaluate(
            path,
            values["evaluator"],
            dataset=datasets[0],
            network=values["network"] or "",
            name=values["name"],
            evaluation_seed=values["evaluation_seed"],
            repeats=values["repeats"],
            registry=values["registry"],
            **common.declared(values),
            **common.common_arguments(values),
        )
    show(records, started, Path(values["registry"]), notes=values["notes"])
