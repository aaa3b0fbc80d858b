"""Boards as LaTeX tables (package booktabs), as papers print them: best bold, second underlined."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from ddbench.tables.board import Board, Claimed, Entry, Grid, Table, shown
from ddbench.tables.formats.markdown import facts

MARK = "% Written by `ddbench leaderboard --format latex`. Needs the packages booktabs and graphicx, and T1 fonts."
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
}


def document(boards: Sequence[Board]) -> str:
    """Return a document of its own with the boards, ready for pdflatex."""
    start = (
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage[a4paper,landscape,margin=1cm]{geometry}\n"
        "\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    )
    return start + "\n".join(map(board, boards)) + "\\end{document}\n"


def board(content: Board) -> str:
    """Return all tables and grids of a board, to be included in a document."""
    parts = [f"{MARK}\n% {' '.join(content.title.split())}"]
    for part in content.tables:
        remarks = [*(f"{name}: {text}." for name, text in facts(part)), *part.legend, *part.notes]
        parts.append(_float(f"{part.dataset}: {part.title}", table(part), remarks))
    for plain in content.grids:
        parts.append(_float(plain.title, grid(plain), plain.notes))
    return "\n".join(parts)


def table(content: Table) -> str:
    """Return the ``tabular`` itself: a rule between budgets, each named once."""
    start = f"\\begin{{tabular}}{{ll{'c' * len(content.columns)}}}"
    lines = [start, r"\toprule", _line(map(escape, content.heads())), r"\midrule"]
    before: str | None = None
    for row in content.rows:
        new = row.ipc_text != before
        if before is not None and new:
            lines.append(r"\midrule")
        before = row.ipc_text
        cells = [_cell(cell, content.runs) for cell in row.cells]
        lines.append(_line([escape(row.budget) if new or row.mark else "", escape(row.network), *cells]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def grid(content: Grid) -> str:
    """Return the ``tabular`` of a plain table; columns of numbers are aligned right."""
    shape = "".join("r" if right else "l" for right in content.numeric())
    lines = [f"\\begin{{tabular}}{{{shape}}}", r"\toprule", _line(map(escape, content.heads())), r"\midrule"]
    lines += [_line(map(escape, row)) for row in content.texts()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


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


def _cell(cell: Entry | Claimed | None, usual: str) -> str:
    seen = shown(cell, usual)
    text = escape(seen.text)
    bold = text.replace(r"$\pm$", r"\boldmath$\pm$")
    text = {1: f"\\textbf{{{bold}}}", 2: f"\\underline{{{text}}}"}.get(seen.rank, text)
    return text + r"$^{\approx}$" * seen.tied + f" ({escape(seen.runs)})" * bool(seen.runs)


def _float(caption: str, body: str, notes: Sequence[str]) -> str:
    remarks = "".join(f"\\par {escape(note)}\n" for note in notes)
    wide = f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n{body.rstrip()}}}\n"
    end = f"\\begin{{minipage}}{{\\linewidth}}\\footnotesize\n{remarks}\\end{{minipage}}\n" if remarks else ""
    start = f"\\begin{{table}}[htbp]\n\\centering\n\\caption{{{escape(caption)}}}\n"
    return f"{start}{wide}\\par\\medskip\n{end}\\end{{table}}\n"


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
