"""`ddbench new-plugin`: a working plugin file and its test to start from."""

from __future__ import annotations

import importlib.resources
import keyword
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from string import Template

import click

from ddbench.cli import completion
from ddbench.errors import UsageError, unknown
from ddbench.plugin.manager import load_plugins
from ddbench.plugin.specs import KINDS as ALL

#: Executors are few, and `plugins/ddbench_plugins/executors/` shows how one is written.
KINDS = tuple(kind for kind in ALL if kind != "executor")
NAME = re.compile(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*")


@click.command("new-plugin")
@click.argument("kind", shell_complete=completion.kinds)
@click.argument("name")
@click.option("--out", default=".", show_default=True, metavar="DIR", help="Folder for the two files.")
def command(kind: str, name: str, out: str) -> None:
    """Create a working plugin of a KIND (method, evaluator, dataset, network, captioner) called NAME, and its test.

    Both files run as they are; nothing is ever overwritten.

    \b
    Examples:
      ddbench new-plugin method mine
      pytest test_mine.py
      ddbench run --method mine --eval rded --plugin mine.py
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid plugin name.", hint="Use lower-case letters, digits and single dashes: my-method."
        )
    module = re.sub(r"[-.]", "_", name)
    if name in load_plugins().entries[kind]:
        raise UsageError(f"There is a {kind} called {name!r} already.", hint="Choose another name.")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or module in packages_distributions():
        module += "_plugin"  # its test could not import it, or others would import it instead of theirs
    folder = Path(out)
    files = {folder / f"{module}.py": f"{kind}.py.txt", folder / f"test_{module}.py": f"test_{kind}.py.txt"}
    for path in files:
        if path.exists():
            raise UsageError(f"{path} exists already.", hint="Choose another name or --out; nothing is overwritten.")
    class_name = "".join(part.capitalize() for part in re.split(r"[-_.]", name))
    from ddbench.files.writing import write_atomic

    for path, template in files.items():
        text = importlib.resources.files("ddbench.cli").joinpath("templates", template).read_text("utf-8")
        write_atomic(path, Template(text).substitute(name=name, module=module, cls=class_name))
        click.echo(str(path))
    click.echo(f"Try it:  pytest {folder / f'test_{module}.py'}", err=True)
    use = {
        "method": f"ddbench run --method {name} --eval rded",
        "evaluator": f"ddbench run --method random --eval {name}",
        "dataset": f"ddbench run --method random --eval rded --dataset {name}",
        "network": f"ddbench run --method random --eval rded --network {name}",
        "captioner": f"ddbench show {name}",
    }[kind]
    click.echo(f"Use it:  {use} --plugin {folder / f'{module}.py'}", err=True)
