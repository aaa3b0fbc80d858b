"""`ddbench data`: which data sets are on this machine, how to get the others, and decoding ahead of a run."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common, completion
from ddbench.errors import DataError
from ddbench.experiment import setup
from ddbench.plugin.images import ImageSource

if TYPE_CHECKING:
    from ddbench.plugin.datasets import Dataset, DataStatus
    from ddbench.runtime.context import Context

NAMES = click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=completion.names("dataset"))
SETTINGS = common.decorate(
    common.preset_option,
    common.set_option,
    common.plugin_option,
    common.offline_option,
    common.quiet_option,
)


@click.group("data")
def command() -> None:
    """Show which data sets are available, how to get the others, and decode them ahead of a run.

    Images are looked for in the folders of DDBENCH_DATA.

    \b
    Examples:
      ddbench data list
      ddbench data check imagewoof imagenet-1k
      ddbench data prepare imagewoof --preset paper
    """


@command.command("list")
@common.plugin_option
@common.json_option
def show(plugins: tuple[str, ...], as_json: bool) -> None:
    """List the data sets, and whether their files were found; nothing is read or downloaded."""
    ctx = setup.context(plugins, device="cpu", precision="fp32", offline=True)
    known = sorted(name for name in ctx.plugins.entries["dataset"] if not name.endswith(":"))
    states = {name: _status(ctx, name) for name in known}
    common.give(lambda: [_facts(name, status) for name, status in states.items()])
    rows = [(name, *_words(status)) for name, status in states.items()]
    click.echo(common.aligned(rows))
    click.echo("`ddbench data check NAME` shows how to get missing files.")


@command.command("check")
@NAMES
@SETTINGS
@common.json_option
def check(names: tuple[str, ...], **values: Any) -> None:
    """List the files of data sets and name what is missing or broken; nothing is downloaded.

    Shows classes, images per class, fingerprint and origin. Ends with exit code 4 when a data set is missing or broken.
    """
    ctx = _context({**values, "offline": True})
    absent = 0
    facts = []
    for name in names:
        state = _status(ctx, name)
        click.echo(click.style(name, bold=True))
        facts.append(_facts(name, state))
        if state is not None and not state.found:
            absent += 1
            _tell("missing", state.missing, state.advice)
            continue
        if state is not None:
            click.echo(f"  files        {state.found}")
        try:
            data = _load(ctx, name)
            _describe(data)
            facts[-1] |= data.describe()
        except DataError as error:
            absent += 1
            facts[-1] |= {"broken": str(error), "advice": error.hint}
            _tell("broken", str(error), error.hint)
    common.give(lambda: facts)
    if absent:
        sys.exit(DataError.exit_code)


@command.command("prepare")
@NAMES
@common.listed("--size", read=common.numbers, help="Image sides to decode at, in pixels (default: the data set's).")
@SETTINGS
@common.json_option
def prepare(names: tuple[str, ...], size: list[int] | None, **values: Any) -> None:
    """Download data sets where that is allowed, and decode every image once, ahead of all runs.

    The decoded images are kept in the artifact folder (DDBENCH_HOME), one memory-mapped array per split and side. A
    broken file is named here instead of in the middle of a run. An interrupted command resumes when it is repeated.
    """
    ctx = _context(values)
    if any(not 0 < side <= ImageSource.LARGEST_SIDE for side in size or ()):
        raise click.BadParameter(f"images have sides of 1 to {ImageSource.LARGEST_SIDE} pixels.", param_hint="--size")
    facts = []
    for name in names:
        start = time.perf_counter()
        data = _load(ctx, name)
        for side in size or [data.image_size]:
            kept = sum(split.images.prepare(side) for split in (data.train, data.test))
            facts.append({"name": name, "images": len(data.train) + len(data.test), "size": side, "bytes": kept})
            where = f"{kept / 1e6:,.1f} MB in {ctx.home}" if kept else "nothing to decode"
            click.echo(f"{name}  {len(data.train) + len(data.test):,} images at {side}×{side}: {where}")
        click.echo(f"{name}  ready after {time.perf_counter() - start:.1f} s")
    common.give(lambda: facts)


def _words(status: DataStatus | None) -> tuple[str, str]:
    if status is None:
        return "?", "does not report its files"
    return ("there", status.found) if status.found else ("missing", "")


def _facts(name: str, status: DataStatus | None) -> dict[str, Any]:
    """Return what is known of a data set's files as data; nothing of one that does not report them."""
    return {"name": name, **(asdict(status) if status else {})}


def _tell(word: str, message: str, advice: str) -> None:
    lines = advice.replace("\n", "\n    ")
    click.echo(f"  {word.ljust(11)}  {message}" + (f"\n  → {lines}" if advice else ""))


def _context(values: dict[str, Any]) -> Context:
    from ddbench.runtime.progress import reporter

    options = common.parse_options(values["options"], values)
    return setup.context(
        values["plugins"],
        values["preset"],
        options,
        device="cpu",
        precision="fp32",
        offline=values["offline"],
        reporter=reporter(values["quiet"]),
    )


def _status(ctx: Context, name: str) -> DataStatus | None:
    from ddbench.plugin.manager import load_plugin, plugin_errors

    entry = ctx.plugins.get("dataset", name)
    with plugin_errors(entry):
        loader = load_plugin(entry)
        status: DataStatus | None = loader.status(ctx.with_options_of(loader, entry), entry.argument)
    return status


def _load(ctx: Context, name: str) -> Dataset:
    from ddbench.experiment.pipeline import load_dataset

    return load_dataset(ctx, name)


def _describe(data: Dataset) -> None:
    side, k = data.image_size, data.num_classes
    named = [f"{name} ({key})" for name, key in zip(data.class_names, data.class_ids, strict=True)]
    shown = ", ".join(named) if k <= 3 else f"{', '.join(named[:2])}, … {named[-1]}"
    click.echo(f"  classes      {k}, in this order: {shown}")
    for word, split in (("training", data.train), ("test", data.test)):
        counts = split.counts(k)
        per_class = f"{counts[0]:,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
        click.echo(f"  {word.ljust(11)}  {len(split):,} images, {per_class} per class")
    click.echo(f"  images       {side}×{side}×{data.channels}")
    click.echo(f"  fingerprint  {data.fingerprint}")
    click.echo(f"  origin       {data.origin}")
