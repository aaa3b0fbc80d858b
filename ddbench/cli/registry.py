"""`ddbench registry`: verify, import and export records."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ddbench.cli import common
from ddbench.errors import RecordError, UsageError


@click.group("registry")
def command() -> None:
    """Check, import and export records and published claims.

    \b
    Examples:
      ddbench registry verify
      ddbench registry import ../other/registry
      ddbench registry export results.csv --dataset cifar10
    """


@command.command("verify")
@common.registry_option
@common.json_option
def verify(registry: str, as_json: bool) -> None:
    """Verify keys and digests; find invalid, edited, duplicate and misplaced records, and invalid claims.

    The exit code is 8 if anything is wrong.
    """
    from ddbench.results import claims
    from ddbench.results.registry import check

    if not Path(registry).is_dir():
        raise UsageError(f"There is no folder {registry}.", hint="Name a registry with --registry.")
    checked = check(Path(registry))
    published, wrong = claims.load(Path(registry))
    problems = [*checked.problems, *wrong]
    common.give(
        lambda: {
            "records": checked.records,
            "claims": len(published.claims),
            "problems": [asdict(problem) for problem in problems],
            "notes": [asdict(note) for note in checked.notes],
        }
    )
    for problem in problems:
        click.echo(str(problem), err=True)
    for note in checked.notes:
        click.echo(f"note: {note}", err=True)
    count = f"{checked.records} records and {len(published.claims)} claims in order"
    if problems:
        files = len({problem.path for problem in problems})
        click.echo(f"{count}; {len(problems)} problems in {files} file{'s' * (files > 1)}.", err=True)
        click.echo("  → Run these cells again, or move the files out of the registry.", err=True)
        sys.exit(RecordError.exit_code)
    click.echo(f"{count}.")


@command.command("import")
@click.argument("source", type=click.Path(exists=True))
@common.registry_option
@click.option("--replace", is_flag=True, help="Let a contradicting record replace ours.")
@click.option("--percent", is_flag=True, help="Accept claims below 1 as percent, not as fractions.")
@common.json_option
def import_(source: str, registry: str, replace: bool, percent: bool, as_json: bool) -> None:
    """Import records from another registry, a folder or a file; or published claims from a CSV file.

    Nothing is overwritten silently: a record with more repeats of the same runs extends ours; a contradicting one is
    refused unless --replace is given. Invalid ones are refused and named, and the exit code is then 8.

    \b
    Examples:
      ddbench registry import ../other/registry
      ddbench registry import claims.csv
    """
    from ddbench.files.reading import read_text
    from ddbench.results import claims, exchange

    path = Path(source)
    if path.suffix.lower() == ".csv":
        text = read_text(path, RecordError)
        with exchange.locked(Path(registry)):
            added, wrong = claims.add(Path(registry), text, percent=percent)
        common.give(lambda: {"claims": added, "refused": wrong})
        for line in wrong:
            click.echo(f"refused {line}", err=True)
        click.echo(f"{added} claims added")
        if any("looks like a fraction" in line for line in wrong):
            click.echo("  → Write 14.4 for 0.144; if percent are meant, add --percent.", err=True)
        sys.exit(RecordError.exit_code if wrong else 0)
    report = exchange.import_records(path, Path(registry), replace=replace)
    common.give(lambda: asdict(report))
    for problem in report.refused:
        click.echo(f"refused {problem}", err=True)
    for name in report.replaced:
        click.echo(f"replaced {name}", err=True)
    click.echo(
        f"{len(report.added)} added, {len(report.extended)} extended, {len(report.replaced)} replaced,"
        f" {len(report.same)} there already, {len(report.refused)} refused"
    )
    sys.exit(RecordError.exit_code if report.refused else 0)


@command.command("export")
@click.argument("target", type=click.Path())
@common.registry_option
@common.listed("-d", "--dataset")
@common.listed("-m", "--method")
@common.listed("-e", "--evaluator")
@common.listed("-n", "--network")
@common.listed("--ipc", read=common.numbers)
@common.json_option
def export(target: str, registry: str, ipc: list[int] | None, as_json: bool, **filters: Any) -> None:
    """Write records to a new folder, or to a new CSV file with one line per trained network (TARGET ends in .csv).

    Invalid records are skipped and named, and the exit code is then 8.
    """
    from ddbench.results import exchange
    from ddbench.results.registry import load

    wanted = {name: values for name, values in {**filters, "ipc": ipc}.items() if values}
    chosen, problems = load(Path(registry), **wanted)
    path = Path(target)
    count = exchange.to_csv_file(chosen, path) if path.suffix == ".csv" else exchange.to_folder(chosen, path)
    common.give(lambda: {"records": count, "target": target, "problems": [asdict(problem) for problem in problems]})
    for problem in problems:
        click.echo(f"left out {problem}", err=True)
    click.echo(f"{count} records → {target}")
    sys.exit(RecordError.exit_code if problems else 0)


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of a record."""
    from ddbench.results.schema import Record

    click.echo(json.dumps(Record.model_json_schema(), indent=1, ensure_ascii=False))
