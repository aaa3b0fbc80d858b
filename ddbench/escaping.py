"""One function per place that text goes to: names and values from records, plugins and files are never markup there."""

from __future__ import annotations

import contextlib
import html as _html
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from csv import writer
from typing import Any, TextIO

#: What spreadsheets take for a formula when a cell begins with it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: Colours and emphasis: all that output of ddbench's own ever asks of a terminal's standard output.
STYLE = re.compile(r"\x1b\[[0-9;]*m")
#: Categories of characters that are not seen but act: controls, formats (bidirectional, zero width), halves of pairs,
#: line and paragraph separators.
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
#: Formats that belong to words and emoji.
HARMLESS = "\u200c\u200d\u00ad\ufe0f"


def one_line(text: str) -> str:
    """Show what would not be seen, line ends included, as escapes: ``\\n``, ``\\x1b``, ``\\u202e``."""
    return "".join(map(_shown, text))


def terminal(text: str) -> str:
    """Keep lines and tabs, and show what else would act on a terminal as escapes."""
    return "".join(character if character in "\n\t" else _shown(character) for character in text)


def markdown(text: str) -> str:
    """Escape what Markdown (also GitHub's) reads as markup, links and addresses; the result is one line."""
    text = one_line(text)
    for character in "\\`*_<>|[]~&@":
        text = text.replace(character, "\\" + character)
    text = text.replace("://", ":\\//")
    text = re.sub(r"(?i)\b(www)\.", r"\1\\.", text)
    return "\\" + text if text.startswith("#") else text


def html(text: str) -> str:
    """Escape what HTML reads as markup; the result is one line."""
    return _html.escape(one_line(text))


def html_table(heads: Iterable[object], rows: Iterable[Iterable[object]], caption: str = "") -> str:
    """Return a small HTML table of texts and numbers, all of them escaped."""
    parts = ["<table>", f"<caption>{html(caption)}</caption>"] if caption else ["<table>"]
    parts.append("<thead><tr>" + "".join(f"<th>{html(str(head))}</th>" for head in heads) + "</tr></thead><tbody>")
    parts += ["<tr>" + "".join(f"<td>{html(str(value))}</td>" for value in row) + "</tr>" for row in rows]
    return "\n".join([*parts, "</tbody>", "</table>"])


def csv(value: Any) -> Any:
    """Keep text from being read as a formula by a spreadsheet; numbers stay what they are."""
    if not isinstance(value, str):
        return value
    value = terminal(value)
    return f"'{value}" if value.startswith(FORMULA) and not _is_number(value) else value


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as the text of a CSV file, every cell as :func:`csv` returns it."""
    text = io.StringIO()
    writer(text, lineterminator="\n").writerows(map(csv, row) for row in rows)
    return text.getvalue()


def figure(text: str) -> str:
    """Keep matplotlib from reading text as mathematics; the result is one line."""
    return one_line(text).replace("$", r"\$")


class Output:
    """A stream for people: passes on text with its colours, and shows what else would act on a terminal as escapes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, unless its reader is gone, as ``head`` is when it has what it wanted: the command continues."""
        shown = text
        if not (text.isascii() and text.isprintable()):
            styles = [*STYLE.findall(text), ""]
            shown = "".join(terminal(part) + style for part, style in zip(STYLE.split(text), styles, strict=True))
        with self._unread():
            self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Bring out what is waiting."""
        with self._unread():
            self._stream.flush()

    @contextlib.contextmanager
    def _unread(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.drop()

    def drop(self) -> None:
        """Let all that is still to be written vanish."""
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # by which click would go around this, where the stream is ASCII
            raise AttributeError(name)
        return getattr(self._stream, name)


def _shown(character: str) -> str:
    if character.isprintable() or character in HARMLESS:
        return character
    if unicodedata.category(character) not in UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
