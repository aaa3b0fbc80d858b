"""The command line: each command is a small module, imported only when it is used."""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn, cast

import click

from ddbench import __version__
from ddbench.errors import INTERRUPTED, DDBenchError, StorageError, UsageError, did_you_mean, not_installed
from ddbench.escaping import Output, terminal
from ddbench.files.writing import REASONS
from ddbench.plugin.containment import LeftBehind
from ddbench.runtime import environment

#: Command → (module below ddbench.cli, one line for --help), in the order of --help.
COMMANDS = {
    "run": ("run", "Distil and evaluate: the whole experiment in one command."),
    "plan": ("plan", "Dry run: cells, steps with estimated cost, data and weights."),
    "status": ("status", "How the cells of a run by workers are: waiting, running where, done, failed and why."),
    "cancel": ("cancel", "End the workers of a run; what is finished stays."),
    "distill": ("distill", "Distil without evaluating."),
    "evaluate": ("evaluate", "Evaluate a distilled set from a folder."),
    "import": ("import_", "Convert a third-party distilled set into ddbench's format."),
    "push": ("push", "Publish distilled sets on the Hugging Face hub, with card, records and metadata."),
    "pull": ("pull", "Bring distilled sets that `ddbench push` published."),
    "list": ("list_", "List methods, evaluators, data sets, networks, captioners and executors."),
    "data": ("data", "Which data sets are available, how to get the others; decode them ahead of a run."),
    "models": ("models", "Trained models: which there are; make those of a run, hand them on, take a colleague's."),
    "show": ("show", "Options, presets and citation of a plugin; the content of records, and how two differ."),
    "leaderboard": ("leaderboard", "Turn records into comparison tables."),
    "compare": ("compare", "Test whether two methods differ: effect, confidence interval, p value."),
    "registry": ("registry", "Verify, import and export records and published claims."),
    "site": ("site", "Build the registry as one web page: boards, plots, every method and record."),
    "gallery": ("gallery", "Draw distilled images side by side."),
    "tsne": ("tsne", "Draw one class's images with the prototypes found among them."),
    "curves": ("curves", "Draw the training curves of records."),
    "cache": ("cache", "Show the size of the cache, and remove what interrupted runs left behind."),
    "plugins": ("plugins", "List installed plugins, and those that failed to load, with the reason."),
    "new-plugin": ("new_plugin", "Create a working plugin of your own, with its test."),
}
#: Commands that others start, and no help lists.
HIDDEN = {"worker": ("worker", "")}
DEBUG_VARIABLE = "DDBENCH_DEBUG"
TRACEBACK = "--traceback"
#: Set by shells that ask for completions (docs/cli/index.md).
COMPLETE = "_DDBENCH_COMPLETE"
_usual_warning = warnings.formatwarning


class LazyGroup(click.Group):
    """Imports a command's module when the command is used, and guesses at misspelt ones."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in reading order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if not (listed := COMMANDS.get(cmd_name) or HIDDEN.get(cmd_name)):
            return None
        command: click.Command = importlib.import_module(f"ddbench.cli.{listed[0]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, naming a near miss."""
        name = args[0]
        if name not in {**COMMANDS, **HIDDEN} and not name.startswith("-"):
            raise click.UsageError(f"Unknown command {name!r}.{did_you_mean(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="ddbench")
@click.option(TRACEBACK, is_flag=True, help="Show where an error came from (any command; also DDBENCH_DEBUG=1).")
def group(traceback: bool) -> None:
    """The plugin-based benchmarking toolkit of dataset distillation.

    One command distils a data set with any method, evaluates the result under any protocol and records everything;
    records become comparison tables. Everything with a name is a plugin.

    \b
    Start here:
      ddbench run --method vlcp --eval rded      distil and evaluate (CPU, offline)
      ddbench list                               all methods, evaluators, data sets, …
      ddbench leaderboard                        compare what was recorded
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code of what happened (see ddbench.errors)."""
    arguments = list(sys.argv[1:] if args is None else args)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = TRACEBACK in own or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
    # --traceback may stand anywhere, also behind the command.
    arguments = [word for word in own if word != TRACEBACK] + arguments[len(own) :]
    if COMPLETE not in os.environ:  # a shell reads the bytes that click writes
        _open_streams()
    warnings.formatwarning = _warning
    try:
        if (count := environment.launched()) > 1:
            raise UsageError(
                f"A launcher started this command {count} times, and all would do the same.",
                hint="Start it once: --jobs N starts workers that share the work (docs/clusters/index.md).",
            )
        code = group.main(arguments, prog_name="ddbench", standalone_mode=False, obj={"debug": debug})
    except Exception as error:
        if debug and not isinstance(error, (click.ClickException, click.Abort)):
            raise
        code = explain(error)
    sys.exit(_close_streams(code if isinstance(code, int) else 0))


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Write a warning about a plugin as ddbench's own are written; others say where in the code they come from."""
    if issubclass(category, LeftBehind):
        return f"warning: {terminal(str(message))}\n"
    return _usual_warning(message, category, filename, lineno, line)


def _open_streams() -> None:
    """Let any text be printed and no text but colours act on the terminal; a closed stream takes everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Output(stream) if name == "stdout" and not isinstance(stream, Output) else stream)


def _close_streams(code: int) -> int:
    """Bring out what is still to be printed, and return the exit code: of this where everything else went well."""
    try:
        sys.stdout.flush()
    except OSError as error:
        cast(Output, sys.stdout).drop()
        return code or explain(error)
    return code


def explain(error: Exception) -> int:
    """Print an error as a message and what to do about it, and return the exit code."""
    if isinstance(error, click.Abort):
        _say("stopped", "Run the same command again: it continues from the last finished step or checkpoint.", "")
        return INTERRUPTED
    message, hint, code = explained(error)
    _say(message, hint)
    return code


def explained(error: Exception) -> tuple[str, str, int]:
    """Return an error as a message, what to do about it, and the exit code."""
    if isinstance(error, DDBenchError):
        return str(error), error.hint, error.exit_code
    if lacking := not_installed(error):
        return str(lacking), lacking.hint, lacking.exit_code
    if isinstance(error, click.ClickException):
        return *_usage(error), error.exit_code
    if isinstance(error, OSError) and error.errno in REASONS:
        reason, hint = REASONS[error.errno]
        where = f"to {error.filename}" if error.filename else "the output"
        return f"cannot write {where}: {reason}.", hint, StorageError.exit_code
    if _out_of_memory(error):
        hint = (
            "Lower the batch size (see `ddbench show NAME` for the option), use --precision bf16, a smaller network, or"
            " --device cpu. Finished steps are kept: run the same command again to resume."
        )
        return "out of memory.", hint, DDBenchError.exit_code
    hint = "Run the command again with --traceback to see where; a report with that output is welcome."
    return f"unexpected {type(error).__name__}: {error}", hint, DDBenchError.exit_code


def _usage(error: click.ClickException) -> tuple[str, str]:
    context: click.Context | None = getattr(error, "ctx", None)
    command = context.command_path if context else "ddbench"
    return error.format_message(), f"`{command} --help` shows how it is used."


def _out_of_memory(error: BaseException | None) -> bool:
    """Recognise torch's and Python's errors, also as the cause of another, without importing torch."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
            return True
        error = error.__cause__
    return False


def _say(message: str, hint: str, prefix: str = "error: ") -> None:
    click.echo(f"{prefix}{terminal(message)}", err=True)
    if hint:
        click.echo("  → " + terminal(hint).replace("\n", "\n    "), err=True)
