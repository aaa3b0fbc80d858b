"""Claimed versus reproduced: one line per published cell that was measured like for like; a pure function.

A published cell and records match when data set, IPC, method, protocol, network and label type agree (by aliases.toml).
Extensions of a protocol and references on the whole training set never match. The verdict follows one rule,
:data:`RULE`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ddbench.results.claims import KINDS, UNKNOWN, Aliases, Claim
from ddbench.results.schema import Record
from ddbench.tables import paper
from ddbench.tables.board import POINTS, Entry, Grid, Heading, Shown, Value
from ddbench.tables.leaderboard import Layout, entry, in_order
from ddbench.tables.views import Footnotes

#: Networks that a claim rests on where nothing else is known, and the tolerance (points) below which nothing differs.
NETWORKS, TOLERANCE = 3, 1.0
RULE = (
    f"Agrees: the difference is at most {TOLERANCE:g} point or twice the root of the summed squares of both deviations"
    " (ours taken for a claim without one). Scaled down: something of ours is smaller than in the paper, or fewer"
    f" networks were trained (sets × repeats) than the claim rests on ({NETWORKS} where its source does not say)."
    " Setting an option that the experiment decides otherwise (auto) names the protocol and shrinks nothing."
)
COUNT = (
    "A claim stands once, by the method's own source, with the sources that quote the same number. Where a source does"
    " not state its protocol, its number is left out unless the protocol is known otherwise; a letter says how."
)


@dataclass(frozen=True)
class Pair:
    """A published cell and ours.

    Attributes:
        claim: the published number, under the protocol it was measured by.
        sources: where it stands, its own source first.
        ours: all runs of the matching records.
        smaller: what of ours was smaller than in the paper, or fewer.
        known: how the protocol is known where the source does not state it.
        why: what explains a difference.
        records: paths of the records below ``registry/results``.
    """

    claim: Claim
    sources: tuple[str, ...]
    ours: Entry
    smaller: tuple[str, ...]
    known: str
    why: str
    records: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Ours minus the claim, in points."""
        return 100 * self.ours.mean - self.claim.value

    @property
    def agrees(self) -> bool:
        """Whether the difference is within :data:`RULE`."""
        own = 100 * (self.ours.std or 0)
        claimed = own if self.claim.deviation is None else self.claim.deviation
        return abs(self.difference) <= max(TOLERANCE, 2 * math.hypot(own, claimed)) + 1e-9

    @property
    def verdict(self) -> str:
        """What the comparison says, by :data:`RULE`."""
        if self.smaller:
            return f"scaled down: {self.smaller[0]}"
        return "agrees" if self.agrees else "differs"

    @property
    def remark(self) -> str:
        """What else a reader must know."""
        missing = "unexplained" if self.verdict == "differs" and not self.why else ""
        return "; ".join(filter(None, (*self.smaller[1:], self.why or missing)))


def pairs(records: Iterable[Record], claims: Iterable[Claim], aliases: Aliases | None = None) -> list[Pair]:
    """Return every published top-1 cell that was measured, in the order of the claims."""
    names = aliases or Aliases()
    cells: dict[tuple[object, ...], list[list[Claim]]] = defaultdict(list)
    how: dict[Claim, str] = {}
    for claim in claims:
        known = names.established_of(claim)
        stated = replace(claim, evaluator=known.protocol) if known else claim
        if claim.metric == "top1" and claim.ipc is not None and stated.evaluator != UNKNOWN:
            numbers = cells[paper.place_of_claim(stated, names)[:5]]  # the protocol decides the labels
            witnesses = next((number for number in numbers if _same(number[0], stated)), None)
            if witnesses is None:
                numbers.append(witnesses := [])
            witnesses.append(stated)
            how[stated] = "; ".join(about.why for about in (known, names.experiment_of(stated)) if about)
    ours: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in in_order(records):
        if not record.protocol.extension:
            ours[paper.place_of(record, names)[:5]].append(record)
    matched = []
    for place, numbers in cells.items():
        for members in numbers if place in ours else []:
            labels = {paper.place_of_claim(claim, names)[5] for claim in members} - {UNKNOWN}
            words = names.experiment_of(members[0])
            options = words.options.items() if words else ()
            fitting = [
                record
                for record in ours[place]
                if (not labels or paper.place_of(record, names)[5] in labels)
                and all(record.cell.method.options.get(key) == value for key, value in options)
            ]
            if fitting:
                matched.append(_pair(members, fitting, names, how))
    return matched


def _same(first: Claim, second: Claim) -> bool:
    """Whether two sources print the same number, one of them perhaps with more decimals."""
    decimals = min(len(claim.mean.partition(".")[2]) for claim in (first, second))
    return first.value == second.value or abs(first.value - second.value) <= 0.5 / 10.0**decimals + 1e-9


def grid(matched: Sequence[Pair], title: str, layout: Layout, citations: Mapping[str, str] | None = None) -> Grid:
    """Return one line per pair, the methods' own claims first, with the count of verdicts above.

    Args:
        matched: what :func:`pairs` returned.
        title: of the table.
        layout: the order of methods, and names.
        citations: what the keys of sources stand for, explained below.
    """
    names = ("Cell", "Source", "Claimed", "Ours")
    headings = (*map(Heading, names), Heading("Δ", POINTS), *map(Heading, ("Runs", "Verdict", "Why")))
    count = Counter(pair.verdict.partition(":")[0] for pair in matched)
    lead = f"{count['agrees']} agree, {count['differs']} differ, {count['scaled down']} scaled down."
    letters = Footnotes()

    def place(pair: Pair) -> tuple[object, ...]:
        claim = pair.claim
        setting = (claim.dataset, claim.evaluator, layout.aliases.network_of(claim))
        return KINDS.index(claim.kind) > 1, *setting, layout.column_rank(claim.method), claim.method, claim.ipc

    rows = tuple(_line(pair, layout, letters) for pair in sorted(matched, key=place))
    cited = dict.fromkeys(source.partition(",")[0] for pair in matched for source in pair.sources)
    known = citations or {}
    sources = [f"{source}: {known[source]}." for source in sorted(cited) if source in known]
    return Grid(title, headings, rows, (RULE, COUNT, *letters.texts(), *sources), lead)


def _line(pair: Pair, layout: Layout, letters: Footnotes) -> tuple[Value, ...]:
    claim, ours = pair.claim, pair.ours
    network = layout.aliases.network_of(claim)
    method, data, network, protocol = map(layout.called, (claim.method, claim.dataset, network, claim.evaluator))
    quoted = f"; also in {', '.join(pair.sources[1:])}" if len(pair.sources) > 1 else ""
    return (
        Shown(f"{method}, {data}, IPC {claim.ipc}, {network}, {protocol} protocol", marks=letters.of(pair.known)),
        pair.sources[0] + quoted,
        Shown(claim.text, claim.value),
        Shown(ours.text, 100 * ours.mean),
        pair.difference,
        ours.runs,
        pair.verdict,
        pair.remark,
    )


def _pair(claims: Sequence[Claim], records: Sequence[Record], names: Aliases, how: Mapping[Claim, str]) -> Pair:
    """Hold one number and its witnesses against the experiment nearest to it."""
    ordered = sorted(claims, key=lambda claim: KINDS.index(claim.kind))
    deviation = next((claim.std for claim in ordered if claim.std), "")
    claim = replace(ordered[0], std=deviation)
    own = names.own_of(claim)
    nearest = paper.best_variant(records, own)
    ours = entry(nearest)
    rests = next((stated.networks for source in ordered for stated in names.rests if stated.fits(source)), NETWORKS)
    few = f"{len(ours.values)} of {rests} networks"
    explained = next((stated.why for source in ordered for stated in names.explained if stated.fits(source)), "")
    smaller = dict.fromkeys(text for record in nearest for text in paper.scaled_down(record, own))
    return Pair(
        claim=claim,
        sources=(
            f"{claim.source}, {claim.table}",
            *dict.fromkeys(c.source for c in ordered if c.source != claim.source),
        ),
        ours=ours,
        smaller=(*smaller, *[few] * (len(ours.values) < rests)),
        known=how[ordered[0]],
        why=explained,
        records=tuple(record.relative_path().as_posix() for record in nearest),
    )
