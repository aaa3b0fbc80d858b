"""Finished runs as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from ddbench.tables import stats

Row = dict[str, Any]


def compare(
    protocol: str, ours: Sequence[Row], theirs: Sequence[Row], peaks: dict[str, float], flops: float
) -> list[str]:
    """Return one table row: seconds, ratio, accuracies, tests, share of the peak; runs are paired in order."""
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=False)]
    seconds = [statistics.median(run["seconds"] for run in side) for side in (ours, theirs)]
    values = [[run["accuracy"] for run in side] for side in (ours, theirs)]
    shares = [
        flops / time / peaks[side[0]["precision"]] if side[0]["precision"] in peaks else None
        for time, side in zip(seconds, (ours, theirs), strict=True)
    ]
    return [
        protocol,
        str(ours[0]["epochs"])
        + ("" if ours[0]["epochs"] == ours[0]["full_epochs"] else f" of {ours[0]['full_epochs']}"),
        f"{seconds[0]:.1f}",
        f"{seconds[1]:.1f}",
        f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})",
        *(f"{statistics.fmean(v):.2%}" + (f" ± {stats.population_std(v):.2%}" if len(v) > 1 else "") for v in values),
        noise(*values),
        f"{ours[0]['tests']} / {theirs[0]['tests']}",
        " / ".join("–" if share is None else f"{share:.0%}" for share in shares),
        str(len(ratios)),
    ]


def noise(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Say whether mean accuracies differ by more than chance (Welch's t test of networks)."""
    found = stats.difference([ours], [theirs])
    if found.p_value is None:
        return f"{found.effect:+.2%} (too few runs)"
    verdict = "within noise" if found.p_value >= stats.LEVEL else "**differs**"
    return f"{found.effect:+.2%}, p = {found.p_value:.2f}, {verdict}"


COMPARED = (
    "protocol",
    "epochs",
    "ddbench s",
    "released s",
    "ratio",
    "ddbench accuracy",
    "released accuracy",
    "difference",
    "tests",
    "share of peak",
    "pairs",
)
LOOPS = ("loop", "norm", "batch", "ms per step", "GFLOP/s", "share of peak")


def loops(measured: Row) -> list[list[str]]:
    """Return the rows of the second table: the bare training loop."""
    peak = measured["peaks"][measured["precision"]]
    return [
        [
            row["protocol"],
            row["norm"],
            str(row["batch"]),
            f"{row['step_seconds'] * 1000:.1f}",
            f"{row['flops'] / 1e9:.0f}",
            f"{row['flops'] / peak:.0%}",
        ]
        for row in measured["loops"]
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
