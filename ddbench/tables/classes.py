"""Accuracy class by class, from which test images each network got right; one grid per setting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ddbench.results.runs import by_set
from ddbench.results.schema import Record, spread_text
from ddbench.tables.board import Grid, Heading, Shown, Value
from ddbench.tables.leaderboard import Layout, by_variant, called
from ddbench.tables.stats import population_std
from ddbench.tables.views import MOST

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grids(records: Iterable[Record], layout: Layout, labels: Mapping[str, NDArray[np.int64]]) -> list[Grid]:
    """Return classes × methods for every setting of data sets whose test labels are given.

    Args:
        records: with which test images each network got right.
        layout: what methods and protocols are called.
        labels: int [test images] by fingerprint of the data set.
    """
    settings: dict[tuple[object, ...], dict[tuple[str, str], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for column, members in by_variant(records, layout):
        for record in members:
            cell = record.cell
            if cell.dataset["fingerprint"] in labels:
                protocol = ", ".join(filter(None, layout.protocol(record)))
                place = (cell.dataset["name"], cell.dataset["fingerprint"], record.budget, protocol, cell.network)
                name = column.label, called(column, layout)
                settings[(*place, record.protocol.digest)][name].append(record)
    return [
        _grid(place, dict(methods[start : start + MOST]), layout, labels[str(place[1])])
        for place, variants in settings.items()
        if (methods := sorted(variants.items(), key=lambda item: layout.column_rank(item[1][0].cell.method.name)))
        for start in range(0, len(methods), MOST)
    ]


def _grid(
    place: tuple[object, ...],
    variants: Mapping[tuple[str, str], list[Record]],
    layout: Layout,
    labels: NDArray[np.int64],
) -> Grid:
    name, _, budget, protocol, network, _ = map(str, place)
    columns = [_accuracies(members, labels) for members in variants.values()]
    names = next(iter(variants.values()))[0].cell.dataset["class_names"]
    rows: list[tuple[Value, ...]] = []
    for number, title in enumerate(names):
        means = [(float(column[:, number].mean()), population_std(column[:, number].tolist())) for column in columns]
        rows.append((str(title), *(Shown(spread_text(*mean), 100 * mean[0]) for mean in means)))
    headings = (Heading("Class"), *(Heading(shown) for _, shown in variants))
    title = f"Accuracy by class: {layout.called(name)}, IPC {budget}, {protocol}, {layout.called(network)}"
    return Grid(title, headings, tuple(rows), folded=True)


def _accuracies(records: list[Record], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float [networks, classes]."""

    def by_class(record: Record) -> list[NDArray[np.float64]]:
        answers = [record.result.correct_bits(repeat) for repeat in range(len(record.result.correct))]
        return [np.bincount(labels, weights=bits) / np.bincount(labels) for bits in answers]

    return np.stack([network for of_set in by_set(records, by_class).values() for network in of_set])
