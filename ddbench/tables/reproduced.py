"""Claimed versus reproduced: published cells beside what ddbench measured for the same cell; a pure function.

A published cell and records match when data set, IPC, method, protocol, network and label type agree (by aliases.toml).
Extensions of a protocol never match. The verdict follows one rule, :data:`RULE`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ddbench.keys import canonical
from ddbench.results import labels
from ddbench.results.claims import UNKNOWN, Aliases, Claim
from ddbench.results.schema import Record
from ddbench.tables import notes
from ddbench.tables.board import POINTS, Entry, Grid, Heading
from ddbench.tables.leaderboard import entry, in_order

#: Fewest networks that are judged, and the tolerance (points) below which no difference counts.
FEWEST, TOLERANCE = 3, 1.0
RULE = (
    f"Verdict: reproduced where the difference is at most {TOLERANCE:g} point or twice the root of the summed squares"
    " of both deviations (ours taken for a claim without one), else higher or lower. There is no verdict where"
    " something was scaled down, where options were set by hand, where the source does not state its protocol, and for"
    f" fewer than {FEWEST} networks."
)


@dataclass(frozen=True)
class Pair:
    """A published cell and ours.

    Attributes:
        claim: the published number.
        ours: all runs of the matching records.
        preset, selection: of our runs; the selection rule of the test epoch.
        shrunk: what was smaller than in the paper, as ``option paper → used``.
        changed: options that were set by hand.
        certain: whether the source states its protocol and labels.
        records: paths of the records below ``registry/results``.
    """

    claim: Claim
    ours: Entry
    preset: str
    selection: str
    shrunk: tuple[str, ...]
    changed: str
    certain: bool
    records: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Ours minus the claim, in points."""
        return 100 * self.ours.mean - self.claim.value

    @property
    def verdict(self) -> str:
        """What the comparison says, by :data:`RULE`."""
        if self.shrunk:
            return "scaled down"
        if self.changed:
            return "other options"
        if not self.certain:
            return "protocol not stated"
        if len(self.ours.values) < FEWEST:
            return "too few runs"
        own = 100 * (self.ours.std or 0)
        claimed = own if self.claim.deviation is None else self.claim.deviation
        if abs(self.difference) <= max(TOLERANCE, 2 * math.hypot(own, claimed)):
            return "reproduced"
        return "higher" if self.difference > 0 else "lower"


def pairs(records: Iterable[Record], claims: Iterable[Claim], aliases: Aliases | None = None) -> list[Pair]:
    """Return every published top-1 cell with each variant of it that was measured, in the order of the claims."""
    names = aliases or Aliases()
    groups: dict[tuple[object, ...], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    wanted = [
        (claim, (claim.dataset, claim.ipc, claim.method, names.network_of(claim)))
        for claim in claims
        if claim.metric == "top1"
    ]
    places = {place for _, place in wanted}
    for record in in_order(records):
        extended = record.protocol.extension and record.cell.ipc is not None
        if not extended and (place := _place(record)) in places:
            groups[place][_variant(record)].append(record)
    matched: list[Pair] = []
    for claim, place in wanted:
        for _, members in sorted(groups.get(place, {}).items()):
            if _agrees(claim, members[0], names):
                matched.append(_pair(claim, members, names))
    return matched


def grid(matched: Sequence[Pair], title: str = "Claimed versus reproduced") -> Grid:
    """Return one line per pair."""
    headings = (
        *map(Heading, ("Data set", "IPC", "Method", "Protocol", "Network", "Labels", "Source", "Whose")),
        Heading("Claimed", "%"),
        Heading("±"),
        Heading("Ours", "%"),
        Heading("±"),
        Heading("Runs"),
        Heading("Difference", POINTS),
        *map(Heading, ("Verdict", "Selection", "Preset", "Paper → used here")),
    )
    return Grid(title, headings, tuple(map(_line, matched)), (RULE,))


def _line(pair: Pair) -> tuple[str | float | int | None, ...]:
    claim, ours = pair.claim, pair.ours
    changes = "; ".join(filter(None, (", ".join(pair.shrunk), pair.changed and f"set by hand: {pair.changed}")))
    return (
        claim.dataset,
        "full" if claim.ipc is None else str(claim.ipc),
        claim.method,
        claim.evaluator,
        claim.network,
        claim.label_type,
        f"{claim.source}, {claim.table}",
        claim.kind,
        claim.value,
        claim.deviation,
        *ours.percent[:2],
        ours.runs,
        pair.difference,
        pair.verdict,
        notes.selection_text(pair.selection),
        pair.preset,
        changes or None,
    )


def _place(record: Record) -> tuple[object, ...]:
    cell = record.cell
    return cell.dataset["name"], cell.ipc, cell.method.name, cell.network


def _variant(record: Record) -> str:
    """What must agree for records to be one result: everything but the seed."""
    cell = record.cell
    shared = cell.model_dump(mode="json", exclude={"seed", "evaluation_seed"})
    return canonical([shared, record.protocol.digest])


def _agrees(claim: Claim, record: Record, names: Aliases) -> bool:
    evaluator = record.cell.evaluator
    protocol = names.protocol_of(evaluator.name, evaluator.options)
    return claim.evaluator in (protocol, UNKNOWN) and claim.label_type in (notes.label_type(record), UNKNOWN)


def _pair(claim: Claim, records: Sequence[Record], names: Aliases) -> Pair:
    cell = records[0].cell
    implied = names.options_of(claim.evaluator)
    own = {key: value for key, value in cell.evaluator.explicit.items() if implied.get(key) != value}
    shrunk = dict.fromkeys(
        f"{name} {labels.value_text(paper)} → {labels.value_text(used)}"
        for r in records
        for name, paper, used in r.shrunk
    )
    by_hand = {**cell.method.explicit, **own, **labels.flat(cell.other_options)}
    return Pair(
        claim=claim,
        ours=entry(records),
        preset=cell.preset,
        selection=records[0].result.selection,
        shrunk=tuple(shrunk),
        changed=", ".join(f"{key}={labels.value_text(value)}" for key, value in sorted(by_hand.items())),
        certain=UNKNOWN not in (claim.evaluator, claim.label_type),
        records=tuple(record.relative_path().as_posix() for record in records),
    )
