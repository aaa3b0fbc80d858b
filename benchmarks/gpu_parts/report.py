"""results.json, and report.md: the same as tables."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby

import summary

from gpu_parts.jobs import Row, Setting, shown

MARKS = {True: "yes", False: "**no**", None: ""}


def write(setting: Setting, rows: list[Row], left_out: list[str]) -> str:
    """Write both files, and return the text of the second."""
    setting.out.mkdir(parents=True, exist_ok=True)
    content = {"device": setting.device, "rows": [asdict(row) for row in rows], "left_out": left_out}
    (setting.out / "results.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    text = "\n\n".join([_title(rows), *(_table(part, list(mine)) for part, mine in _parts(rows)), _end(rows, left_out)])
    (setting.out / "report.md").write_text(text + "\n", "utf-8")
    return text


def _parts(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    order = list(dict.fromkeys(row.part for row in rows))
    ordered = sorted(rows, key=lambda row: order.index(row.part))
    return [(part, list(mine)) for part, mine in groupby(ordered, key=lambda row: row.part)]


def _title(rows: list[Row]) -> str:
    """Name the card and the versions: no number is worth anything without them."""
    card = next((row.figures for row in rows if row.what == "card"), {})
    facts = ", ".join(f"{name} {shown(value)}" for name, value in card.items() if name != "card")
    return f"# {card.get('card', 'unknown card')}\n\n{facts}"


def _table(part: str, rows: list[Row]) -> str:
    """Lay out a part: a column for every figure that any of its rows has."""
    rows = [row for row in rows if row.what != "card"]
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    judged = any(row.ok is not None for row in rows)
    noted = any(row.note for row in rows)
    head = ["what", *names, *["as it should be"] * judged, *["note"] * noted]
    lines = [
        [
            row.what,
            *(shown(row.figures.get(name, "")) for name in names),
            *[MARKS[row.ok]] * judged,
            *[row.note.replace("|", "\\|")] * noted,
        ]
        for row in rows
    ]
    return f"## {part}\n\n{summary.table(head, lines)}"


def _end(rows: list[Row], left_out: list[str]) -> str:
    wrong = sum(row.ok is False for row in rows)
    late = f" Left out for lack of time: {', '.join(left_out)}; run the same command again." if left_out else ""
    return f"{len(rows)} results, {wrong} not as they should be.{late}"
