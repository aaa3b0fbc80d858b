"""docs/cli/errors.md lists every exit code; its table is made from ddbench.errors."""

from __future__ import annotations

from pathlib import Path

from ddbench.errors import INTERRUPTED, DDBenchError

ERRORS = sorted([DDBenchError, *DDBenchError.__subclasses__()], key=lambda error: error.exit_code)


def table() -> str:
    rows = [("0", "", "everything went well")]
    rows += [(str(error.exit_code), f"`{error.__name__}`", error.summary) for error in ERRORS]
    rows += [(str(INTERRUPTED), "", "stopped with Ctrl-C; run the same command again to resume")]
    lines = ["| exit code | in Python | what happened |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines).replace("|  |", "| |")


def test_the_table_is_current():
    text = (Path(__file__).parents[2] / "docs" / "cli" / "errors.md").read_text("utf-8")
    assert table() in text, f"put this table into docs/cli/errors.md:\n{table()}"


def test_every_error_has_a_code_of_its_own():
    codes = [error.exit_code for error in ERRORS]
    assert len(set(codes)) == len(codes)
