"""Boards as LaTeX tables (package booktabs), as papers print them: best bold, second underlined."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from ddbench.tables import views
from ddbench.tables.board import Board, Grid, Shown

MARK = "% Written by `ddbench leaderboard --format latex`. Needs the packages booktabs and graphicx, and T1 fonts."
#: The key of a BibTeX entry.
KEY = re.compile(r"@\w+\s*\{\s*([^\s,{}%#]+)\s*,")
#: Rows of a table on a page: more would not fit below the caption.
ROWS = 40
SPECIAL = {
    **{character: f"\\{character}" for character in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "[": "{[}",  # after a line's end it would open an argument
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "≈": r"$\approx$",
    "−": "$-$",
    "…": r"\dots{}",
    "–": "--",
    "—": "---",
    "’": "'",
    "†": r"\dag{}",
    "Δ": r"$\Delta$",
}


def boards(content: Sequence[Board], bibtex: Mapping[str, str]) -> str:
    """Return the tables of all boards; behind the end of what LaTeX reads, the BibTeX entries of the methods in them.

    Args:
        content: the boards.
        bibtex: method → entry.
    """
    used = dict.fromkeys(
        cell.method for part in content for grid in part.grids for row in grid.cells() for cell in row if cell.method
    )
    entries = dict.fromkeys(bibtex[method].strip() for method in used if bibtex.get(method))
    keys = {method: match[1] for method in used if (match := KEY.search(bibtex.get(method, "")))}
    text = "\n".join(board(part, keys) for part in content)
    return (
        text + "\n\n".join(["\n\\endinput % the entries of \\cite, for a .bib file", *entries]) + "\n"
        if entries
        else text
    )


def board(content: Board, keys: Mapping[str, str] | None = None) -> str:
    """Return all tables of a board, to be included in a document; those of records with what each method cost.

    What holds for all of them is text between them: protocols may be longer than a page.

    ``keys`` are those of methods in the bibliography.
    """
    parts = [f"{MARK}\n% {' '.join(content.title.split())}"]
    costs = [grid for table in content.tables for grid in views.costs(table)]
    for shown in (*content.grids, *dict.fromkeys(costs)):
        if shown.headings:
            remarks = [*filter(None, (content.lead, shown.lead)), *shown.notes]
            parts += _floats(shown.title or content.title, list(_tabulars(shown, keys or {})), remarks)
        elif shown.notes:
            parts.append(_paragraphs(shown.title, shown.notes))
    return "\n".join(parts)


def grid(content: Grid, keys: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the table's ``tabular``s, methods with a key cited; columns of numbers are aligned right."""
    return "\n".join(_tabulars(content, keys))


def _tabulars(content: Grid, keys: Mapping[str, str]) -> Iterable[str]:
    """Yield a ``tabular`` a page: all rows, unless they are more than a page holds."""
    shape = "".join("r" if right else "l" for right in content.numeric())
    heads = [_raised(escape(heading.text), heading.marks) for heading in content.headings]
    start = [f"\\begin{{tabular}}{{{shape}}}", r"\toprule", _line(heads), r"\midrule"]
    rows = [_line(_cell(cell, keys.get(cell.method, "")) for cell in row) for row in content.cells()]
    for first in range(0, max(len(rows), 1), ROWS):
        yield "\n".join([*start, *rows[first : first + ROWS], r"\bottomrule", r"\end{tabular}"]) + "\n"


def escape(text: str) -> str:
    """Escape what LaTeX would read as markup; letters beyond ASCII lose their accents, other signs become ``?``."""
    return "".join(SPECIAL.get(character) or _plain(character) for character in text)


def _plain(character: str) -> str:
    if character.isspace():
        return " "
    if character.isascii():
        return character if character.isprintable() else "?"
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return base if base.isalnum() else "?"


def _cell(cell: Shown, key: str) -> str:
    text = escape(cell.text) + f"~\\cite{{{key}}}" * bool(key)
    bold = text.replace(r"$\pm$", r"\boldmath$\pm$")
    text = {1: f"\\textbf{{{bold}}}", 2: f"\\underline{{{text}}}"}.get(cell.rank, text)
    return _raised(text, cell.marks) + f" ({escape(cell.below)})" * bool(cell.below)


def _raised(text: str, marks: str) -> str:
    return text + f"\\textsuperscript{{{escape(marks)}}}" * bool(marks)


def _floats(caption: str, bodies: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Return a float for each of ``bodies``; of several, the notes are text behind the last: no page holds both."""
    if len(bodies) == 1:
        return [_float(caption, bodies[0], notes)]
    floats = [_float(caption + " (continued)" * bool(place), body, ()) for place, body in enumerate(bodies)]
    return [*floats, _paragraphs(caption, notes)]


def _float(caption: str, body: str, notes: Sequence[str]) -> str:
    remarks = _remarks(notes)
    wide = f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n{body.rstrip()}}}\n"
    end = f"\\begin{{minipage}}{{\\linewidth}}\\footnotesize\\sloppy\n{remarks}\\end{{minipage}}\n" if remarks else ""
    start = f"\\begin{{table}}[htbp]\n\\centering\n\\caption{{{escape(caption)}}}\n"
    return f"{start}{wide}\\par\\medskip\n{end}\\end{{table}}\n"


def _paragraphs(title: str, notes: Sequence[str]) -> str:
    return f"{{\\footnotesize\\sloppy\\par\\textbf{{{escape(title)}.}}\n{_remarks(notes)}\\par}}\n"


def _remarks(notes: Sequence[str]) -> str:
    return "".join(f"\\par {escape(note)}\n" for note in notes)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
