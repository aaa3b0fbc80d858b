"""`ddbench run`: distil, evaluate, record, compare."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common

if TYPE_CHECKING:
    from ddbench.records import Record


@click.command("run")
@click.option("-m", "--method", type=common.names, metavar=common.NAMES, required=True, help="Distillation methods.")
@click.option(
    "-e", "--eval", "evaluator", type=common.names, metavar=common.NAMES, required=True, help="Evaluation protocols."
)
@common.dataset_option
@common.ipc_option
@common.network_option
@common.seed_option
@click.option("--evaluation-seed", type=int, default=0, show_default=True, help="Base of the students' seeds.")
@common.repeats_option
@common.preset_option
@common.set_option
@common.plugin_option
@common.registry_option
@common.machine_options
def command(**values: Any) -> None:
    """Distil with every method, evaluate under every protocol, and write one record per cell.

    Finished steps are reused, interrupted ones go on from their last checkpoint. Everything is checked before anything
    runs, so a typo costs no hours.

    \b
    Examples:
      ddbench run --method vlcp --eval rded
      ddbench run -m random,herding,vlcp,full -e rded --ipc 1,10 --seed 0,1,2 --repeats 3
      ddbench run -m vlcp -e rded -o method.strength=0.6 -o eval.epochs=100
      ddbench run -m vlcp -e minimax,rded -d imagenette --preset paper --device cuda
      ddbench run -m mine -e rded --plugin mine.py
    """
    from ddbench import api

    started = time.time()
    shared = common.common_arguments(values)
    found: list[Record] = []
    for dataset in common.check_datasets(values):
        found += api.run(
            values["method"],
            values["evaluator"],
            dataset=dataset,
            ipc=values["ipc"],
            network=values["network"] or "",
            seed=values["seed"],
            evaluation_seed=values["evaluation_seed"],
            repeats=values["repeats"],
            registry=values["registry"],
            **shared,
        )
    show(found, Path(values["registry"]), started)


def show(found: list[Record], registry: Path, started: float) -> None:
    """Print the table of these records, where they are, where the images are, and what was there before the start."""
    from ddbench.leaderboard import build
    from ddbench.reports import pages, terminal

    terminal.show(build(found, pages.layout(pages.declared(Path("leaderboards")))))
    click.echo()
    for record in found:
        click.echo(f"record  {registry / 'results' / record.relative_path()}")
    for folder, record in {images_folder(record): record for record in found}.items():
        if folder is not None:
            cell = record.cell
            click.echo(f"images  {cell.method.name}, IPC {record.budget}, seed {cell.seed}: {folder}")
    if text := reused(found, started):
        click.echo(f"reused  {text}")


def reused(found: list[Record], started: float) -> str:
    """Return how many steps of each kind were finished before ``started`` (seconds since the epoch), or ""."""
    from ddbench.store import MARKER, home

    steps = {(step["step"], step["key"]) for record in found for step in record.costs.steps}
    old: Counter[str] = Counter()
    for name, key in steps:
        marker = home() / name / key / MARKER
        if marker.exists() and marker.stat().st_mtime < started:
            old[name] += 1
    total = Counter(name for name, _ in steps)
    return ", ".join(f"{name} {count} of {total[name]}" for name, count in sorted(old.items()))


def images_folder(record: Record) -> Path | None:
    """Return the folder of the distilled set of a record, if this machine has it."""
    from ddbench.distilled import FILE
    from ddbench.store import home

    folder = home() / "distilled" / record.distilled.key
    return folder if (folder / FILE).exists() else None
