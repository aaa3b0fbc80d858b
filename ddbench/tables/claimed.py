"""Published claims → tables as papers print them: methods as columns, IPC × network as rows; a pure function."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ddbench.results.claims import Claim
from ddbench.tables.board import Claimed, Column, Row, Table
from ddbench.tables.leaderboard import Layout, ranking

Group = tuple[str, ...]


def tables(
    claims: Iterable[Claim], layout: Layout, citations: Mapping[str, str], *, by_source: bool = True
) -> tuple[Table, ...]:
    """Arrange claims into tables: one per table of a source, or one per protocol with the sources named in its columns.

    Columns and networks come in the layout's order, then in the order of the claims (as printed).

    Args:
        claims: in file order.
        layout: the order of columns and rows, and names.
        citations: source → citation.
        by_source: keep sources apart.
    """
    groups: dict[Group, list[Claim]] = defaultdict(list)
    for claim in claims:
        protocol = (claim.dataset, claim.evaluator, claim.label_type, claim.metric)
        groups[(*protocol, claim.source, claim.table) if by_source else protocol].append(claim)
    return tuple(_table(members, layout, citations, by_source) for members in groups.values())


def _table(claims: Sequence[Claim], layout: Layout, citations: Mapping[str, str], by_source: bool) -> Table:
    first = claims[0]
    columns = _columns(claims, layout, by_source)
    networks = list(dict.fromkeys(claim.network for claim in claims))
    keys: set[tuple[int | None, str]] = {(claim.ipc, claim.network) for claim in claims if claim.ipc is not None}
    covered = {network for _, network in keys}
    keys |= {(None, claim.network) for claim in claims if claim.network not in covered}
    ordered = sorted(
        keys, key=lambda key: (key[0] is None, key[0] or 0, layout.network_rank(key[1])[0], networks.index(key[1]))
    )
    rows = tuple(_row(ipc, network, columns, layout) for ipc, network in ordered)
    sources = dict.fromkeys(claim.source for claim in claims)
    protocol = f"{first.evaluator}, {first.label_type} labels"
    return Table(
        dataset=first.dataset,
        fingerprint="",
        evaluator=first.evaluator,
        preset="",
        title=f"{first.source}, {first.table}" if by_source else f"claimed under {protocol}",
        facts=(
            ("Data set", first.dataset),
            ("Protocol", protocol if first.evaluator != "unknown" else f"not stated, {first.label_type} labels"),
            ("Metric", "top-1 accuracy in percent" if first.metric == "top1" else first.metric),
            *((f"Source {key}", citations.get(key, "")) for key in sources),
        ),
        columns=tuple(column for column, _ in columns),
        rows=rows,
        runs="",
        notes=("Published numbers as printed; ddbench did not measure them.",),
        claimed=True,
    )


def _columns(claims: Sequence[Claim], layout: Layout, by_source: bool) -> list[tuple[Column, list[Claim]]]:
    groups: dict[tuple[str, bool, str], list[Claim]] = defaultdict(list)
    for claim in claims:
        groups[claim.method, claim.ipc is None, "" if by_source else f"{claim.source} {claim.table}"].append(claim)
    columns = [
        (Column(layout.called(method) + (f" [{members[0].source}]" if source else ""), method, whole), members)
        for (method, whole, source), members in groups.items()
    ]
    return sorted(columns, key=lambda item: layout.column_rank(item[0]))


def _row(ipc: int | None, network: str, columns: Sequence[tuple[Column, list[Claim]]], layout: Layout) -> Row:
    cells: list[Claimed | None] = []
    shown: dict[int, float] = {}
    for place, (column, members) in enumerate(columns):
        budget = None if column.whole else ipc
        claim = next((claim for claim in members if (claim.ipc, claim.network) == (budget, network)), None)
        cells.append(
            None if claim is None else Claimed(claim.text, claim.value, claim.deviation, claim.kind, claim.source)
        )
        if claim is not None and not column.whole:
            shown[place] = claim.value
    for place, rank in ranking(shown).items():
        cell = cells[place]
        cells[place] = cell and replace(cell, rank=rank)
    return Row(ipc, layout.called(network), "", "", tuple(cells))
