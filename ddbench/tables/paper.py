"""Boards of papers: claimed numbers and ours side by side, never ranked together; a pure function.

One block per data set, protocol and network; methods are lines in the paper's order, every IPC has a column of claims
and one of ours. Claimed and measured cells meet only where data set, IPC, method, protocol, network and labels agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ddbench.results.claims import Aliases, Claim
from ddbench.results.schema import Record
from ddbench.tables import notes, views
from ddbench.tables.board import DECIMALS, Entry, Grid, Heading, Shown, Value
from ddbench.tables.leaderboard import Layout, entry, in_order, ranking

#: Budgets beside each other: with method and venue, eight columns.
BUDGETS = 3
NOT_RUN = "not run"


def grids(
    claims: Iterable[Claim],
    records: Iterable[Record],
    layout: Layout,
    venues: Mapping[str, str],
    signs: Mapping[str, str] | None = None,
) -> list[Grid]:
    """Return the blocks of these claims; those of other networks than the first are folded.

    Args:
        claims: in the order of the paper.
        records: any; those of the same cells are shown beside the claims.
        layout: the order of networks and methods, and names.
        venues: where methods were published.
        signs: what the layout's signs mean.
    """
    ours: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in in_order(records):
        if not record.protocol.extension and record.cell.ipc is not None:
            ours[place_of(record, layout.aliases)].append(record)
    blocks: dict[tuple[str, ...], list[Claim]] = defaultdict(list)
    for claim in claims:
        blocks[claim.dataset, claim.evaluator, claim.network, claim.label_type, claim.metric].append(claim)
    order = list(blocks)
    order.sort(key=lambda block: layout.network_rank(block[2])[0])  # stable: else as printed
    first = order[0][2] if order else ""
    made = [grid for block in order for grid in _block(blocks[block], ours, layout, venues, folded=block[2] != first)]
    return [
        replace(grid, notes=(*grid.notes, *(text for sign, text in (signs or {}).items() if _has(grid, sign))))
        for grid in made
    ]


def _has(grid: Grid, sign: str) -> bool:
    return any(sign in cell.marks for row in grid.cells() for cell in row)


def listing(claims: Sequence[Claim], layout: Layout) -> Grid:
    """Return claims as one folded grid, a line per protocol, method and network, with a column per IPC.

    Sources that print the same numbers share a line; one with several numbers of a cell (of other tables) has several.
    """
    lines: dict[tuple[str, ...], list[dict[int | None, Claim]]] = defaultdict(list)
    for claim in claims:
        method, network = layout.called(claim.method), layout.called(claim.network)
        several = lines[layout.called(claim.evaluator), method, network, claim.source]
        free = [line for line in several if line.get(claim.ipc, claim).text == claim.text]
        own = min(free, key=lambda line: all(other.table != claim.table for other in line.values()), default=None)
        if own is None:
            several.append(own := {})
        own[claim.ipc] = claim
    budgets = sorted({claim.ipc for claim in claims}, key=lambda ipc: (ipc is None, ipc or 0))
    sources: dict[tuple[Value, ...], list[str]] = defaultdict(list)
    for (protocol, method, network, source), several in sorted(lines.items(), key=lambda item: item[0][0]):
        for own in several:
            numbers = [Shown(own[ipc].text, own[ipc].value) if ipc in own else "" for ipc in budgets]
            sources[protocol, method, network, *numbers].append(source)
    rows = [(*line, ", ".join(names)) for line, names in sources.items()]
    headings = (
        *map(Heading, ("Protocol", "Method", "Network")),
        *(Heading("Whole set" if ipc is None else f"IPC {ipc}") for ipc in budgets),
        Heading("Source"),
    )
    lead = "Published numbers as printed; published/sources.md of the registry cites their sources."
    return Grid("Claimed under these protocols", headings, tuple(rows), lead=lead, folded=True)


def place_of(record: Record, names: Aliases) -> tuple[object, ...]:
    """Return what a record shares with the claims of its cell."""
    cell = record.cell
    protocol = names.protocol_of(cell.evaluator.name, cell.evaluator.options)
    return cell.dataset["name"], cell.ipc, cell.method.name, protocol, cell.network, notes.label_type(record)


def place_of_claim(claim: Claim, names: Aliases) -> tuple[object, ...]:
    """Return what a claim shares with the records of its cell."""
    network = names.network_of(claim)
    if known := names.experiment_of(claim):
        words = {"method": claim.method, "network": network, "label_type": claim.label_type, **known.ddbench}
        return claim.dataset, claim.ipc, words["method"], claim.evaluator, words["network"], words["label_type"]
    return claim.dataset, claim.ipc, claim.method, claim.evaluator, network, claim.label_type


def _block(
    claims: Sequence[Claim],
    ours: Mapping[tuple[object, ...], Sequence[Record]],
    layout: Layout,
    venues: Mapping[str, str],
    *,
    folded: bool,
) -> Iterable[Grid]:
    first = claims[0]
    methods = list(dict.fromkeys(claim.method for claim in claims if claim.ipc is not None))
    methods.sort(key=lambda method: layout.column_rank(method))
    budgets = sorted({claim.ipc for claim in claims if claim.ipc is not None})
    cells = {(claim.method, claim.ipc): claim for claim in claims}
    title = f"{layout.called(first.dataset)}, {layout.called(first.evaluator)} protocol, {layout.called(first.network)}"
    whole = next((claim for claim in claims if claim.ipc is None), None)
    lead = f"Whole training set: claimed {whole.text}." if whole else ""
    for start in range(0, len(budgets), BUDGETS):
        part = budgets[start : start + BUDGETS]
        letters = views.Footnotes()
        columns: list[list[Value]] = []
        headings = [Heading("Method"), Heading("Venue")]
        for ipc in part:
            headings += [Heading(f"IPC {ipc}\nclaimed"), Heading(f"IPC {ipc}\nours")]
            claimed = [cells.get((method, ipc)) for method in methods]
            columns.append(_claimed(claimed))
            columns.append(_measured(claimed, ours, layout, letters))
        rows = [
            (Shown(layout.called(method), method=method), venues.get(method, ""), *numbers)
            for method, *numbers in zip(methods, *columns, strict=True)
        ]
        several = f", IPC {', '.join(map(str, part))}" if len(budgets) > BUDGETS else ""
        yield Grid(title + several, tuple(headings), tuple(rows), letters.texts(), lead, folded or start > 0)


def _claimed(claims: Sequence[Claim | None]) -> list[Value]:
    ranks = ranking({place: claim.value for place, claim in enumerate(claims) if claim})
    return [Shown(claim.text, claim.value, ranks[place]) if claim else None for place, claim in enumerate(claims)]


def _measured(
    claims: Sequence[Claim | None],
    ours: Mapping[tuple[object, ...], Sequence[Record]],
    layout: Layout,
    letters: views.Footnotes,
) -> list[Value]:
    entries: dict[int, Entry] = {}
    for place, claim in enumerate(claims):
        if claim and (records := ours.get(place_of_claim(claim, layout.aliases))):
            entries[place] = entry(best_variant(records), signs=layout.signs)
    ranks = ranking({place: round(100 * cell.mean, DECIMALS) for place, cell in entries.items()})
    shown: list[Value] = [NOT_RUN] * len(claims)
    for place, cell in entries.items():
        marks = letters.of(cell.note) + cell.signs
        shown[place] = Shown(cell.text, 100 * cell.mean, ranks[place] * (len(cell.values) > 1), marks, cell.runs)
    return shown


def best_variant(records: Sequence[Record], own: Collection[str] = ()) -> list[Record]:
    """Return the records of one experiment, the one to hold against a claim: least scaled down, official, most runs.

    ``own`` are options that the claim's source sets otherwise than the preset.
    """
    from ddbench.results.runs import experiment

    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[experiment(record)].append(record)

    def rank(members: Sequence[Record]) -> tuple[object, ...]:
        changes = len(scaled_down(members[0], own))
        official = members[0].cell.preset.endswith("+official")
        return changes, not official, -len(entry(members).values), members[0].key

    return min(groups.values(), key=rank)


def scaled_down(record: Record, own: Collection[str] = ()) -> list[str]:
    """Return what was smaller than in the paper, ``own`` options left out; one that only names the protocol is not.

    That is one whose value at paper scale is decided by the experiment (``auto``): where it was set, the digest of the
    protocol says what it came to, and the place of the record which published protocol that is.
    """
    return [
        notes.change_text(*change) for change in record.shrunk if change[1] != notes.DECIDED and change[0] not in own
    ]
