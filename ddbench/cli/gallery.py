"""`ddbench gallery`: distilled images side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common
from ddbench.errors import UsageError

if TYPE_CHECKING:
    from ddbench.distilled import LoadedSet


@click.command("gallery")
@click.argument("what", nargs=-1, required=True, metavar="FOLDER | RECORD | METHOD …")
@click.option("--out", default="gallery.png", show_default=True, metavar="FILE.png", help="The picture.")
@click.option("--per-class", type=click.IntRange(1), default=None, help="Images per class (10; 1 with --prompts).")
@click.option("--classes", type=click.IntRange(1), default=None, help="Classes at most (40; 10 with --prompts).")
@click.option("--prompts", is_flag=True, help="Show images with their text prototypes (one text-guided set).")
@common.dataset_option
@common.ipc_option
@common.seed_option
@common.preset_option
@common.set_option
@common.plugin_option
@common.machine_options
def command(what: tuple[str, ...], **values: Any) -> None:
    """Draw the contact sheets of several distilled sets side by side, one row per class.

    Each is the folder of a distilled set, a record, or a method, which is distilled first if it was not yet.

    \b
    Examples:
      ddbench gallery random herding vlcp --ipc 10
      ddbench gallery distilled/a distilled/b --out compare.png
      ddbench gallery vlcp --prompts --out prompts.png
    """
    from ddbench.reports import gallery

    sets = [each for name in what for each in _sets(name, values)]
    first = sets[0]
    for other in sets[1:]:
        if other.class_ids != first.class_ids:
            raise UsageError(
                "These distilled sets have different classes and cannot share a picture.",
                hint="Draw them one by one, or name one --dataset.",
            )
    contents = [each.distilled for each in sets]
    limits = {"per_class": values["per_class"], "max_classes": values["classes"]}
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    if values["prompts"]:
        if len(sets) > 1:
            raise UsageError("--prompts shows one distilled set at a time.")
        picture = gallery.prompt_sheet(contents[0], first.class_names, **given)
    else:
        picture = gallery.contact_sheet(contents, first.class_names, _titles(sets), **given)
    out = Path(values["out"])
    from ddbench.store import explained

    with explained(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            picture.save(out)
        except ValueError as error:
            raise UsageError(f"{out.name!r} is no picture name.", hint="End it in .png.") from error
    click.echo(str(out))


def _sets(name: str, values: dict[str, Any]) -> list[LoadedSet]:
    from ddbench import api
    from ddbench.distilled import FILE, load

    path = Path(name)
    if (path / FILE).exists():
        return [load(path)]
    if path.is_file() or name.endswith(".json"):
        from ddbench.cli.run import images_folder
        from ddbench.records import read

        folder = images_folder(read(path))
        if folder is None:
            raise UsageError(
                f"The images of {path.name} are not on this machine.",
                hint="Run the command that the record names; it makes the same images again.",
            )
        return [load(folder)]
    datasets = values["dataset"] or [""]
    if len(datasets) > 1:
        raise UsageError("A gallery shows one data set.", hint="Name just one with --dataset.")
    return api.distill(
        name,
        dataset=datasets[0],
        ipc=values["ipc"],
        seed=values["seed"],
        **common.common_arguments(values),
    )


def _titles(sets: list[LoadedSet]) -> list[str]:
    """Return the methods; with IPC and seed where these differ."""
    abouts = [each.about for each in sets]
    budgets = {about["ipc"] for about in abouts}
    seeds = {about["seed"] for about in abouts}
    titles = []
    for about in abouts:
        extra = [f"IPC {about['ipc']}"] * (len(budgets) > 1) + [f"seed {about['seed']}"] * (len(seeds) > 1)
        titles.append(" ".join([about["method"]["name"], *extra]))
    return titles
