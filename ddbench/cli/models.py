"""`ddbench models`: which trained models there are, making those of a run, handing them on and taking others'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench.cli import common, completion

if TYPE_CHECKING:
    from ddbench.runtime.context import Context


@click.group("models")
def command() -> None:
    """Show the trained models on this machine, make those that runs need, hand them on, and take a colleague's.

    Teachers and small diffusion models are trained once for a data set and used by all methods, IPCs and seeds; some
    come with ddbench. A packed model is an archive of safetensors, JSON and arrays that says what it depends on. Runs
    on the same data, with the same options and the same kind of device and precision, use an added model as if it had
    been trained here; all others go on to train their own.

    \b
    Examples:
      ddbench models list
      ddbench models build -m vlcp -e rded -d cifar10
      ddbench models pack teacher/0b1c2d3e4f5a --out models
      ddbench models add models/cifar10-teacher-6f1e0d2c3b4a.zip
    """


def _context(plugins: tuple[str, ...]) -> Context:
    from ddbench.experiment import setup

    return setup.context(plugins, device="cpu", precision="fp32", offline=True)


@command.command("list")
@common.plugin_option
@common.json_option
def show(plugins: tuple[str, ...], as_json: bool) -> None:
    """List the models that come with plugins and those in the artifact folder (DDBENCH_HOME), which can be packed.

    Shows what each is, its data set, size, digest of its content, and the name by which `ddbench models pack` takes it.
    The last column says what trained it: a tool, or a run, on which device and in which precision.
    """
    from ddbench.runtime.progress import size
    from ddbench.sets.models import models

    ctx = _context(plugins)
    found = models(ctx.store, ctx.plugins)
    common.give(lambda: [{**vars(one), "path": str(one.path)} for one in found])
    rows = [
        (one.what, one.dataset, size(one.bytes), one.digest, one.name or "comes with its plugin", one.made)
        for one in found
    ]
    click.echo(common.aligned(rows))


@command.command("build")
@common.experiment_options
@common.machine_options
@click.pass_context
def build(context: click.Context, /, study: str | None, **values: Any) -> None:
    """Train the models that `ddbench run` with the same arguments needs, and nothing that comes after them.

    Finished ones are reused, and interrupted ones resume. What a model needs itself (captions, decoded images) is made,
    too; distilled sets and students are not.
    """
    from ddbench.cli import study as studies
    from ddbench.experiment import jobs
    from ddbench.experiment.dry_run import build_models
    from ddbench.sets.models import made_on

    content = studies.read_study(context, study, values)
    expansion = jobs.expand(content, studies.base(content, common.common_arguments(values)))
    for failure in expansion.failures:
        raise failure.error
    built = list(build_models(expansion.jobs))
    rows = [
        (done.marker["about"].get("model", done.name), f"{done.name}/{done.key[:12]}", made_on(done), str(done.dir))
        for done in built
    ]
    click.echo(common.aligned(rows) if rows else "These runs need no trained model.")


@command.command("pack")
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=completion.models)
@click.option("--out", default=".", metavar="DIR", help="Folder of the archives.", show_default=True)
def pack(names: tuple[str, ...], out: str) -> None:
    """Write models of the artifact folder as archives, by the NAMEs of `ddbench models list`.

    The same model makes the same bytes. Tell the SHA-256 with the file: `ddbench models add` compares it.
    """
    import hashlib

    from ddbench.sets import models

    store = _context(()).store
    for done in [models.named(store, name) for name in names]:
        path = models.pack(done, Path(out))
        with path.open("rb") as file:
            click.echo(f"{path}  sha256={hashlib.file_digest(file, 'sha256').hexdigest()}")


@command.command("add")
@click.argument("source", metavar="FILE|FOLDER|URL", shell_complete=completion.paths)
@click.option(
    "--sha256", default="", metavar="DIGEST", help="Of the file; needed for a URL, or written behind it: #sha256=…"
)
@common.plugin_option
def add(source: str, sha256: str, plugins: tuple[str, ...]) -> None:
    """Take a packed model, so that runs use it as if it had been trained here.

    Every file is compared with its SHA-256, and the model with what it says it depends on. Anything but numbers and
    text, another version, and archives that unpack to more than they hold are refused; nothing is unpickled.

    \b
    Examples:
      ddbench models add cifar10-teacher-6f1e0d2c3b4a.zip
      ddbench models add https://example.org/cifar10-teacher.zip#sha256=6f1e0d2c3b4a…
    """
    from ddbench.sets import models

    ctx = _context(plugins)
    with models.fetched(source, sha256) as path:
        done = models.add(ctx.store, ctx.plugins, path)
    about = done.marker["about"]
    click.echo(
        f"{'there already' if done.reused else 'added'}  {about['model']} of {about.get('dataset') or '-'}  {done.dir}"
    )
    click.echo(f"used by runs on {models.made_on(done) or 'any device'}; others train their own")
