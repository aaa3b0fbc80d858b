"""`ddbench import`: a third-party set in ddbench's format."""

from __future__ import annotations

from typing import Any

import click

from ddbench.cli import common, completion
from ddbench.errors import UsageError
from ddbench.sets.declared import IMPORTED


@click.command("import")
@click.argument("source", shell_complete=completion.paths)
@click.option(
    "--as", "--method-name", "name", required=True, metavar="NAME", help="Name of the method, e.g. mtt-authors."
)
@common.dataset_option
@common.foreign_options
@click.option(
    "--out",
    default=None,
    metavar="DIR",
    help="Copy the set into this folder, as a sub-folder (never overwrites).",
)
@common.set_option
@common.plugin_option
@common.offline_option
@common.quiet_option
def command(**values: Any) -> None:
    """Convert a third-party distilled set, SOURCE, into the format that all other commands read.

    \b
    SOURCE is one of
      class folders         of pictures, named by class id or name (ImageFolder, Minimax, VLCP)
      numbered pictures     00000/class00000_id00000.jpg (RDED, D4M), new000/class000_id000.jpg (SRe2L)
      images_best.pt        with labels_best.pt beside it, and lr_best.pt if there is one (MTT and followers)
      res_*.pt              of DC, DSA and DM: one set per experiment, chosen with --run
      *.npz, *.pt           with images, labels and perhaps learning_rate
      *.parquet, *.zip      pictures with labels, as on the hub; class folders in an archive (SRe2L)
      hf:USER/REPO          with @REVISION or :CONFIG (a configuration, folder or file of it) if you like
      FOLDER:CONFIG         the same of a local copy of a repository

    Files of float tensors do not state their pixel space: give it with --space. Nothing is clamped or unpickled.

    \b
    Examples:
      ddbench import syn_data/ --as rded-authors --dataset imagenette
      ddbench import res_DC_CIFAR10_ConvNet_10ipc.pt --as dc-authors -d cifar10 --space normalised --run -1
      ddbench import images_best.pt --as mtt-authors -d cifar10 --space normalised --learning-rate 0.02
      ddbench import images_best.pt --as ftd-authors -d cifar10 --space zca:mtt --learning-rate 0.02
      ddbench import images_zca_best.pt --as mtt-zca-authors -d cifar10 --space pixel01
      ddbench import kip.npz --as kip-authors -d cifar10 --space zca:kip --labels centred
      ddbench import hf:he-yang/2025-rethinkdc-imagenet-rded-ipc-10 --as rded-rethinkdc -d imagenet-1k
      ddbench import hf:zeyuanyin/SRe2L:sre2l_in1k_rn18_4k_ipc50.zip --as sre2l-authors -d imagenet-1k
      ddbench import syn_data/ --as rded-woof -d imagewoof --classes order.txt --out distilled
      ddbench evaluate distilled/imagewoof-rded-woof-ipc10-seed0 --eval rded
    """
    from ddbench import api
    from ddbench.runtime.progress import reporter

    datasets = values["dataset"] or [""]
    if len(datasets) > 1:
        raise UsageError("A distilled set belongs to one data set.", hint="Name just one with --dataset.")
    made = api.import_set(
        values["source"],
        values["name"],
        dataset=datasets[0],
        out=values["out"],
        plugins=values["plugins"],
        options=common.parse_options(values["options"], values),
        offline=values["offline"],
        reporter=reporter(values["quiet"]),
        **common.declared(values),
    )
    for line in summary(made.about, made.class_names):
        click.echo(line)
    click.echo(f"set      {common.written(made.path, values['out'])}")


def summary(about: Any, class_names: tuple[str, ...]) -> list[str]:
    """Return in words what was read and how it was understood."""
    images = f"images   {about['shape'][0]} of {about['shape'][1]}×{about['shape'][2]}, IPC {about['ipc'] or 'full'}"
    if IMPORTED not in about["extra"]:
        return ["read     a set that ddbench wrote", images]
    origin = about["extra"][IMPORTED]
    files = origin["files"] if isinstance(origin["files"], int) else ", ".join(origin["files"])
    run = f", run {origin['run']} of 0 … {origin['runs'] - 1}" if "runs" in origin else ""
    order = ", ".join(f"{number} {name}" for number, name in enumerate(class_names[:4]))
    more = " …" if len(class_names) > 4 else ""
    numbers = f" ({order}{more})" if origin["classes"].startswith("numbered as in") else ""
    pixels = origin["space"]
    if "mean" in origin:
        pixels += f" by mean {_row(origin['mean'])} and std {_row(origin['std'])}"
    if origin.get("outside"):
        pixels += f"; {origin['outside']:.1%} of the values lie outside [0, 1] and are kept"
    lines = [f"from     {origin['origin']}"] if "origin" in origin else []
    lines += [
        f"read     {origin['format']}: {files} {'pictures' if isinstance(files, int) else ''}".rstrip() + run,
        images,
        f"classes  {origin['classes']}{numbers}",
        f"pixels   {pixels}",
    ]
    if about["learning_rate"]:
        lines.append(f"rate     {about['learning_rate']:.4g}, learned")
    return lines


def _row(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
