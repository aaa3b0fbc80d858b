"""What commands share: options, comma lists, SCOPE.KEY=VALUE pairs."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ddbench.cli import completion
from ddbench.errors import DataError, UsageError, closest
from ddbench.escaping import terminal
from ddbench.files.reading import read_text
from ddbench.runtime import environment
from ddbench.runtime.machine import PRECISIONS

if TYPE_CHECKING:
    from ddbench.experiment.jobs import Failure
    from ddbench.plugin.manager import Plugins
    from ddbench.results.schema import Record

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]

#: Options that take names of plugins, and of which kind.
FLAGS = {"--method": "method", "--eval": "evaluator", "--dataset": "dataset", "--network": "network"}
#: Where the standard output of a command is kept that prints nothing else.
STDOUT = "ddbench.stdout"
#: How comma lists are shown in --help.
NAMES, NUMBERS = "NAME[,NAME…]", "N[,N…]"


def names(text: str) -> list[str]:
    """Read a comma list of names, keeping the order and dropping repetitions."""
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise click.BadParameter("a name is missing.")
    return parts


def numbers(text: str) -> list[int]:
    """Read a comma list of whole numbers from 0, keeping the order and dropping repetitions."""
    try:
        values = list(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 1,10,50.") from error
    if not values or min(values) < 0:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 1,10,50.")
    return values


def written(folder: Path, out: str | None) -> Path:
    """Return where a set was written in the words of ``--out``, which is made absolute for the work itself."""
    return Path(out) / folder.name if out else folder


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Return lines of columns that are aligned; on a terminal, the last column is wrapped where it stands.

    A column whose texts all begin with a digit is aligned right, as numbers are.
    """
    rows = [tuple(map(terminal, row)) for row in rows]
    if not rows:
        return "  none"
    columns = list(zip(*rows, strict=True))[:-1]
    pads = [
        (str.rjust if all(text[:1].isdigit() for text in column) else str.ljust, max(map(len, column)))
        for column in columns
    ]
    lines = []
    for row in rows:
        start = "  " + "".join(pad(text, width) + "  " for text, (pad, width) in zip(row, pads, strict=False))
        lines += _wrapped(row[-1], start)
    return "\n".join(lines)


def _wrapped(text: str, start: str) -> list[str]:
    """Wrap text behind the start of its first line; what is piped stays one line, for grep."""
    if not sys.stdout.isatty():
        return [f"{start}{text}".rstrip()]
    width = max(len(start) + 20, shutil.get_terminal_size().columns - 1)
    wrapped = textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start))
    return wrapped or [start.rstrip()]


def decorate(*decorators: Callable[[Any], Any]) -> Decorator[Any]:
    """Combine option decorators, in the order in which --help lists them."""
    return lambda function: functools.reduce(lambda inner, wrap: wrap(inner), reversed(decorators), function)


def listed(*flags: str, read: Callable[[str], Any] = names, default: str | None = None, **more: Any) -> Decorator[Any]:
    """Make an option that takes a comma list; given several times its lists are joined: ``-m a -m b`` is ``-m a,b``."""

    def joined(context: click.Context, parameter: click.Parameter, parts: tuple[str, ...]) -> Any:
        return read(",".join(parts)) if parts else None

    for flag in FLAGS.keys() & flags:
        more["shell_complete"] = completion.names(FLAGS[flag])
    shown = NUMBERS if read is numbers else NAMES
    start = None if default is None else [default]
    return click.option(*flags, multiple=True, callback=joined, metavar=shown, default=start, **more)


def one_dataset(help: str) -> Decorator[Any]:
    """Make the option of a command that is about one data set."""
    complete = completion.names("dataset")
    return click.option("-d", "--dataset", default="", metavar="NAME", shell_complete=complete, help=help)


dataset_option = listed(
    "-d",
    "--dataset",
    help="Data sets (default: the embedded digits).",
)
ipc_option = listed(
    "--ipc",
    read=numbers,
    default="10",
    show_default=True,
    help="Images per class; one cell each.",
)
seed_option = listed(
    "--seed",
    read=numbers,
    help="Distillation seeds, one distilled set each (default: the method preset's, else 0).",
)
network_option = listed(
    "-n",
    "--network",
    help="Networks to train and test (default: the evaluator's).",
)
repeats_option = click.option(
    "--repeats",
    type=click.IntRange(1),
    default=None,
    help="Networks trained per distilled set (default: the evaluator's).",
)
preset_option = click.option(
    "--preset",
    default="",
    metavar="NAME[+NAME]",
    shell_complete=completion.presets,
    help="Scale (cpu or paper) and fidelity (sane or official), e.g. paper+official.",
)
plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    shell_complete=completion.paths,
    help="Plugin file to load as well (repeatable).",
)
set_option = click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="SCOPE.KEY=VALUE",
    shell_complete=completion.options,
    help="Set an option; SCOPE is method, eval, data, captioner or a plugin's name (repeatable).",
)
registry_option = click.option(
    "--registry",
    default="registry",
    show_default=True,
    metavar="DIR",
    shell_complete=completion.paths,
    help="Folder of the records.",
)


def floats(text: str) -> tuple[float, ...]:
    """Read a comma list of numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as 0.49,0.48,0.45.") from error


#: What the files of a third-party set do not state.
foreign_options = decorate(
    click.option(
        "--space",
        default="",
        metavar="SPACE",
        help="Pixel space of tensors: pixel01 (values in [0, 1]), normalised (DC, DSA, DM, MTT), or zca:RECIPE"
        " (whitened by kip, rfad, frepo, rtp or mtt; the last is FTD's and DATM's, too).",
    ),
    click.option("--mean", type=floats, metavar="X,…", help="Mean of normalised pixels (default: the data set's)."),
    click.option("--std", type=floats, metavar="X,…", help="Std of normalised pixels (default: the data set's)."),
    click.option("--run", type=int, metavar="K", help="Which of several sets in res_*.pt, from 0; -1 is the last."),
    click.option(
        "--classes",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="File of class ids or names, one per line, in label order (default: the data set's order).",
    ),
    click.option(
        "--labels",
        default="",
        metavar="KIND",
        help="What labels [N, K] are, if not probabilities: centred (KIP, RFAD, FRePo: one-hot − 1/K) or free numbers.",
    ),
    click.option("--learning-rate", type=float, metavar="X", help="The student's learned rate, if no file holds it."),
    click.option(
        "--factor",
        type=int,
        metavar="N",
        help="N × N images that each stored one is decoded into (IDC, DREAM, NCFM: 2; --eval idc decodes); 1 for none.",
    ),
)


def declared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the values of :data:`foreign_options` into arguments of the Python API."""
    given = {name: values[name] for name in ("space", "mean", "std", "run", "learning_rate", "labels", "factor")}
    lines = read_text(Path(values["classes"]), DataError).splitlines() if values["classes"] else []
    return {**given, "classes": tuple(line.strip() for line in lines if line.strip())}


def _silence(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    """Let nothing of the command reach standard output but :func:`give`."""
    if value and not context.resilient_parsing and STDOUT not in context.meta:
        context.meta[STDOUT] = sys.stdout
        context.with_resource(contextlib.redirect_stdout(io.StringIO()))
    if value and parameter.name == "quiet":
        environment.quieten_hub()
    return value


def give(make: Callable[[], Any]) -> None:
    """Print plain data as JSON where the command was asked for it, after its work."""
    context = click.get_current_context()
    if context.params.get("as_json"):
        click.echo(json.dumps(make(), indent=1), file=context.meta[STDOUT])  # ASCII, whatever the locale


def give_records(records: Sequence[Record], failures: Sequence[Failure], registry: Path) -> None:
    """Print records with their paths, and what failed, as the JSON of what makes records."""
    from ddbench.results.collection import Records
    from ddbench.results.exchange import path_of

    def made() -> dict[str, Any]:
        paths = [{"path": str(path_of(record, registry))} for record in records]
        described = [{**known, **path} for known, path in zip(Records(records).to_dicts(), paths, strict=True)]
        return {"records": described, "failed": [failure.to_dict() for failure in failures]}

    give(made)


def _offline(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        environment.forbid_network()
    return value


offline_option = click.option("--offline", is_flag=True, callback=_offline, help="Never open a network connection.")
quiet_option = click.option("-q", "--quiet", is_flag=True, callback=_silence, help="Print warnings and errors only.")
json_option = click.option("--json", "as_json", is_flag=True, callback=_silence, help="Print JSON instead.")
notes_option = click.option("--notes", is_flag=True, help="Print all notes of tables, not three lines.")
machine_options = decorate(
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …"),
    click.option("--precision", type=click.Choice(["auto", *PRECISIONS]), default="auto", show_default=True),
    offline_option,
    click.option("--force", is_flag=True, help="Recompute finished steps instead of reusing them."),
    quiet_option,
)
#: What a run and its plan are of.
experiment_options = decorate(
    click.argument("study", required=False, metavar="[STUDY.toml]", shell_complete=completion.paths),
    listed("-m", "--method", help="Distillation methods."),
    listed(
        "-e",
        "--eval",
        "evaluator",
        help="Evaluation protocols (default: the method preset's, if it has one).",
    ),
    dataset_option,
    ipc_option,
    network_option,
    seed_option,
    click.option("--evaluation-seed", type=int, default=0, show_default=True, help="Base seed of the students."),
    repeats_option,
    preset_option,
    set_option,
    plugin_option,
    registry_option,
)


def parse_options(pairs: Iterable[str], values: Mapping[str, Any] | None = None) -> dict[str, dict[str, str]]:
    """Turn ``method.strength=0.6`` pairs into scope → key → text; a later pair wins.

    Args:
        pairs: of ``-o``.
        values: the other values of the command line: the plugins they name are those whose options may be meant.

    Raises:
        UsageError: a pair of another form.
    """
    options: dict[str, dict[str, str]] = {}
    for pair in pairs:
        left, equals, value = pair.partition("=")
        scope, dot, key = left.strip().rpartition(".")  # a plugin's name may have dots
        if not (equals and dot and scope and key):
            raise UsageError(
                f"-o {pair!r} is not SCOPE.KEY=VALUE.", hint=_scope_hint(left.strip(), equals, value, values or {})
            )
        options.setdefault(scope, {})[key.strip()] = value.strip()
    return options


def _scope_hint(key: str, equals: str, value: str, values: Mapping[str, Any]) -> str:
    """Say whose option a key without a scope may be: of the plugins that the command names, else of any."""
    if not (equals and key.isidentifier()):
        return "For example: -o method.strength=0.6"
    known = completion.option_keys(values)
    if close := closest(key, {name for names in known.values() for name in names}):
        meant = [f"-o {scope}.{close}={value}" for scope, names in known.items() if close in names]
        return f"Did you mean {' or '.join(meant)}?"
    return f"Say whose option it is, such as -o eval.{key}={value}; `ddbench show NAME` lists options."


def common_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the shared command-line values into arguments of the Python API."""
    from ddbench.runtime.progress import reporter

    shared = {name: values[name] for name in ("preset", "plugins", "device", "precision", "offline", "force")}
    return {**shared, "options": parse_options(values["options"], values), "reporter": reporter(values["quiet"])}


def check_datasets(values: Mapping[str, Any]) -> list[str]:
    """Return the data sets to run in turn ("" for the default), after a look at every name: a typo costs no hours.

    Raises:
        UsageError: a data set that does not exist.
    """
    from ddbench.plugin.manager import load_plugins

    wanted: list[str] = values["dataset"] or [""]
    if len(wanted) > 1:
        plugins = load_plugins(values["plugins"])
        for name in wanted:
            plugins.get("dataset", name)
    return wanted


def warn_failures(plugins: Plugins) -> None:
    """Name the plugins that were left out."""
    for failure in plugins.failures:
        click.echo(f"warning: left out {failure.owner}: {failure.message}", err=True)
