"""BibTeX entries of the papers that built-in plugins cite: those of ``references.bib``, by key."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def _entries() -> dict[str, str]:
    text = files("ddbench_plugins").joinpath("references.bib").read_text("utf-8")
    return {entry.partition("{")[2].partition(",")[0]: entry.strip() for entry in text.split("\n\n")}


def bibtex(key: str) -> str:
    """Return the entry of a paper."""
    return _entries()[key]
