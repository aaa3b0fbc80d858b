"""What matplotlib figures share: made without a display or global state, saved by the name's ending."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

from ddbench.errors import UsageError
from ddbench.escaping import figure as figure_text
from ddbench.escaping import one_line
from ddbench.files.writing import write_atomic

#: Colours that tell apart on paper and for most colour-blind readers (Okabe and Ito without the yellow, and four more).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b4b8a", "#7f7f7f", "#8c4a2f", "#a3b31f")
DPI = 150
#: Inches: the width of a panel, and what of it axis labels, lines' samples and margins take beside a legend's words.
WIDTH, BESIDE = 5.2, 1.2


def figure(columns: int = 1, *, width: float = WIDTH, height: float = 4.0) -> tuple[Any, list[Any]]:
    """Return a matplotlib figure and its axes, side by side; sizes in inches per panel."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width * columns, height), layout="constrained")
    axes = [drawn.add_subplot(1, columns, place + 1) for place in range(columns)]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return drawn, axes


def wrapped(text: str, inches: float, size: float) -> str:
    """Return text for matplotlib, escaped, in lines that are no wider than ``inches`` in a font of ``size`` points."""
    widest = max(1, int(72 * inches / (0.6 * size)))  # the mean width of a letter is 0.6 of its height
    return "\n".join(figure_text(line) for line in textwrap.wrap(one_line(text), widest))


def save(drawn: Any, out: Path) -> None:
    """Write a figure as PNG, SVG or PDF, without dates.

    Raises:
        UsageError: another ending.
    """
    dates = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    if out.suffix not in dates:
        raise UsageError(f"{out.name!r} is no picture name.", hint="End it in .png, .svg or .pdf.")
    buffer = io.BytesIO()
    drawn.savefig(buffer, format=out.suffix[1:], dpi=DPI, metadata=dates[out.suffix])
    write_atomic(out, buffer.getvalue())
