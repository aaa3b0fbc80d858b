"""What `ddbench run` does with a study: the list of its cells, or running them with a summary and boards at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbench import escaping
from ddbench.cli import common
from ddbench.errors import DDBenchError, UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddbench.experiment.jobs import Expansion, Failure
    from ddbench.experiment.study import Study
    from ddbench.results.schema import Record
    from ddbench.runtime.context import Context
    from ddbench.runtime.progress import Reporter


def carry_out(
    study: Study,
    cells: Expansion,
    registry: Path,
    *,
    out: Path,
    reporter: Reporter,
    again: str,
    force: bool = False,
    notes: bool = False,
    debug: bool = False,
) -> int:
    """Run a study's cells in this process and sum them up, as :func:`summary` does.

    Args:
        study: as read.
        cells: its cells.
        registry: of the records.
        out: folder of the boards and plots.
        reporter: receives progress and notes.
        again: the command that resumes it.
        force: work again instead of reusing what is finished.
        notes: print all notes of its boards.
        debug: stop with the first error and its traceback.
    """
    from ddbench.experiment.jobs import run
    from ddbench.results.schema import Record

    ended = list(run(cells.jobs, registry, reporter, force=force, stop=debug))
    records = [outcome for outcome in ended if isinstance(outcome, Record)]
    failures = [*cells.failures, *(outcome for outcome in ended if not isinstance(outcome, Record))]
    names = {job.label: job.name for job in cells.jobs if job.name}
    return summary(
        study, names, cells.same, records, failures, registry, out=out, again=again, notes=notes, debug=debug
    )


def summary(
    study: Study,
    names: Mapping[str, str],
    same: Sequence[tuple[str, str]],
    records: Sequence[Record],
    failures: list[Failure],
    registry: Path,
    *,
    out: Path,
    again: str,
    notes: bool,
    debug: bool,
) -> int:
    """Write the boards of a study, print what became of its cells, and return the exit code: 0, or of what failed.

    Args:
        study: as read.
        names: what the study calls methods with their options.
        same: names of cells that come to the same as an earlier one.
        records, failures: how the others ended.
        registry, out, again, notes, debug: as of :func:`carry_out`.
    """
    from ddbench.experiment.jobs import Failure

    broken = len(failures)
    if records:
        try:
            boards(study, names, records, registry, out, notes=notes)
        except DDBenchError as error:  # earlier failures are reported all the same
            if debug:
                raise
            failures.append(Failure(f"boards in {out}", error))
    common.give_records(records, failures, registry)
    click.echo(f"cells   {len(records)} recorded, {broken} failed; records in {registry / 'results'}")
    for name, other in same:
        click.echo(f"same    {name} is the same cell as {other}")
    return report(failures, again) if failures else 0


def report(failures: Sequence[Failure], again: str, word: str = "failed") -> int:
    """Print what failed, why and how to resume; return the exit code (1 where errors are of several kinds)."""
    from ddbench.cli import explained

    codes = set()
    for failure in failures:
        message, hint, code = explained(failure.error)
        codes.add(code)
        click.echo(escaping.terminal(f"{word}  {failure.title}\n        {message}"), err=True)
        if hint:
            click.echo(escaping.terminal(f"        → {hint}"), err=True)
    if again:
        click.echo(f"  → Finished steps are kept; to resume: {again}", err=True)
    return codes.pop() if len(codes) == 1 else DDBenchError.exit_code


def check_boards(study: Study, cells: Expansion) -> None:
    """Look for mistakes in what a study says of its boards, before anything runs.

    Raises:
        UsageError: a key, a name that is taken, or a reference that is no variant of the study.
    """
    from ddbench.tables import boards as making
    from ddbench.tables.declared import validated

    declared = validated(study.boards, study.path.name)
    making.boards([], declared)
    if cells.failures:  # the reference may be among the cells whose data are not there
        return
    known = [name for job in cells.jobs for name in (job.name, job.label) if name]
    known = list(dict.fromkeys([*known, *declared.columns.labels.values()]))
    for page in declared.board:
        if page.reference and page.reference not in known:
            raise unknown(f"reference of board {page.name}", page.reference, known)


def boards(
    study: Study,
    names: Mapping[str, str],
    records: Sequence[Record],
    registry: Path,
    out: Path,
    *,
    notes: bool = False,
) -> None:
    """Print the boards that a study declares (all where it declares none), and write all pages and plots."""
    from ddbench.figures import base as figures
    from ddbench.figures import sweeps
    from ddbench.results import claims as published
    from ddbench.tables import boards as making
    from ddbench.tables import pages
    from ddbench.tables.declared import validated
    from ddbench.tables.formats import terminal

    declared = validated(study.boards, study.path.name)
    columns = declared.columns.model_copy(update={"labels": {**names, **declared.columns.labels}})
    declared = declared.model_copy(update={"columns": columns})
    claims, wrong = published.load(registry)
    for problem in wrong:
        click.echo(f"left out {problem}", err=True)
    made = making.boards(records, declared, claims=claims)
    own = [page.name for page in declared.board]
    for board in [board for board in made if board.name in own] or made:
        terminal.show(board, notes=notes)
        click.echo()
    written = pages.write(out, pages.render(made))
    reference = next((page.reference for page in declared.board if page.reference), "")
    if swept := sweeps.sweeps(records, study.swept, reference, declared.layout()):
        figures.save(sweeps.draw(swept), out / "sweeps.png")
        written.append("sweeps.png")
    for name in written:
        click.echo(f"wrote   {out / name}")
    for name in own:
        if name not in {board.name for board in made}:
            click.echo(f"empty   board {name}: no record matches its filters")


def read_study(context: click.Context, study: str | None, values: dict[str, Any]) -> Study:
    """Return the study of a file with the command's options in it, or the one that the options alone mean."""
    from ddbench.experiment.study import of_command, read
    from ddbench.tables.declared import validated

    if study and not study.endswith(".toml"):
        raise UsageError(f"{study!r} is not a study file.", hint="Give methods with --method, or a .toml file.")
    values_given = given(values, context)
    content = read(Path(study), values_given) if study else of_command(values_given)
    validated(content.boards, content.path.name)
    return content


def base(study: Study, shared: Mapping[str, Any]) -> Context:
    """Return the context that the cells of a study share: plugins, machine, store."""
    from ddbench.experiment import setup

    machine = {key: shared[key] for key in ("device", "precision", "offline", "reporter")}
    return setup.context([*study.plugins, *shared["plugins"]], **machine)


def planning(study: Study, shared: Mapping[str, Any]) -> Context:
    """Return the context in which cells are planned: without a look at devices, which workers have."""
    from dataclasses import replace

    from ddbench.runtime.machine import Machine

    context = base(study, {**shared, "device": "cpu", "precision": "fp32"})
    kind, precision = shared["device"].partition(":")[0], shared["precision"]
    machine = Machine(
        "cpu" if kind == "auto" else kind, "fp32" if precision == "auto" else precision, shared["offline"]
    )
    return replace(context, machine=machine)


def given(values: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """Return the keys of a study that the command line sets, which replace those of the file."""
    from click.core import ParameterSource

    keys = ("method", "dataset", "ipc", "network", "seed", "evaluation_seed", "repeats", "preset")
    names = {"evaluator": "eval", **{key: key.replace("_", "-") for key in keys}}
    replaced = {
        key: values[name]
        for name, key in names.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return {**replaced, "option": common.parse_options(values["options"], values)} if values["options"] else replaced
