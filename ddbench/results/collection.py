"""Several records together: a sequence that a notebook shows as a table and pandas takes as a frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ddbench import escaping
from ddbench.results.labels import label_of
from ddbench.results.schema import Record

if TYPE_CHECKING:
    import pandas as pd

#: Rows of a table in a notebook at most.
SHOWN = 20


#: What is known of every trained network, by the names of columns; accuracies are fractions in [0, 1], options JSON.
COLUMNS: Mapping[str, Callable[[Record, int], object]] = {
    "dataset": lambda record, repeat: record.cell.dataset["name"],
    "fingerprint": lambda record, repeat: record.cell.dataset["fingerprint"],
    "ipc": lambda record, repeat: record.budget,
    "method": lambda record, repeat: record.cell.method.name,
    "method_options": lambda record, repeat: _json(record.cell.method.options),
    "variant": lambda record, repeat: label_of(record.cell),
    "seed": lambda record, repeat: record.cell.seed,
    "evaluator": lambda record, repeat: record.cell.evaluator.name,
    "evaluator_options": lambda record, repeat: _json(record.cell.evaluator.options),
    "network": lambda record, repeat: record.cell.network,
    "evaluation_seed": lambda record, repeat: record.cell.evaluation_seed,
    "preset": lambda record, repeat: record.cell.preset,
    "protocol": lambda record, repeat: record.protocol.digest,
    "extension": lambda record, repeat: record.protocol.extension,
    "label_type": lambda record, repeat: record.protocol.settings.get("label_type", ""),
    "selection": lambda record, repeat: record.result.selection,
    "distilled": lambda record, repeat: record.distilled.digest,
    "repeat": lambda record, repeat: repeat,
    "value": lambda record, repeat: record.result.values[repeat],
    "last": lambda record, repeat: record.result.last[repeat],
    "best": lambda record, repeat: record.result.best[repeat],
    "distill_seconds": lambda record, repeat: record.costs.distill_seconds,
    "evaluate_seconds": lambda record, repeat: record.costs.evaluate_seconds,
    "bytes_images": lambda record, repeat: record.costs.bytes_images,
    "bytes_labels": lambda record, repeat: record.costs.bytes_labels,
    "shrunk": lambda record, repeat: _json([list(change) for change in record.shrunk]),
    "key": lambda record, repeat: record.key,
    "digest": lambda record, repeat: record.digest,
}


def rows(records: Iterable[Record]) -> Iterator[list[object]]:
    """Yield one row per trained network, its values in the order of :data:`COLUMNS`.

    Rows with the same ``distilled`` (digest of the images), ``protocol``, ``evaluation_seed`` and ``repeat`` are of
    one network, however the set was called.
    """
    for record in records:
        for repeat in range(len(record.result.values)):
            yield [read(record, repeat) for read in COLUMNS.values()]


class Records(tuple[Record, ...]):
    """Records in a fixed order, as :func:`ddbench.records` and :func:`ddbench.run` return them.

    A tuple of :class:`ddbench.Record`; ``ddbench.Records(record for record in records if …)`` makes a smaller one.
    """

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per trained network, so that means over seeds and repeats are a ``groupby``.

        The columns are those of ``ddbench registry export FILE.csv``: ``value`` is the headline accuracy (``last`` or
        ``best`` by the protocol's ``selection``) as a fraction in [0, 1], ``ipc`` is missing for the whole training
        set, ``variant`` names the method with the options that were set, ``protocol`` is the digest that results must
        share to be compared, seconds and bytes are those of the whole record.

        Example:
            >>> frame = ddbench.records(dataset="cifar10", evaluator="rded").to_frame()
            >>> frame.groupby(["protocol", "network", "ipc", "variant"])["value"].agg(["mean", "std", "count"])
        """
        import pandas as pd

        frame = pd.DataFrame(rows(self), columns=list(COLUMNS))
        frame["ipc"] = pd.to_numeric(frame["ipc"], errors="coerce").astype("Int64")
        return frame.astype({"best": float, "distill_seconds": float})  # which may be None everywhere

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return plain data, one dictionary per record, in the words of :meth:`to_frame`; what ``--json`` prints.

        ``value``, ``last`` and ``best`` are lists with one number per trained network, beside their ``mean`` and
        ``std``; options are dictionaries, and ``ipc`` is None for the whole training set.
        """
        return [_dict(record) for record in self]

    def __repr__(self) -> str:
        names = {
            "data set": {record.cell.dataset["name"] for record in self},
            "method": {record.cell.method.name for record in self},
            "evaluator": {record.cell.evaluator.name for record in self},
        }
        return f"<{_count(self, 'record')} of {', '.join(_count(known, what) for what, known in names.items())}>"

    def _repr_html_(self) -> str:
        heads = ("data set", "IPC", "method", "evaluator", "network", "seed", "accuracy (%)", "networks")
        lines = [
            (
                *(cell.dataset["name"], record.budget, label_of(cell), cell.evaluator.name, cell.network, cell.seed),
                *(record.accuracy, len(record.result.values)),
            )
            for record in self[:SHOWN]
            for cell in (record.cell,)
        ]
        more = f"<p>… and {len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return escaping.html_table(heads, lines, caption=repr(self).strip("<>")) + more


def _dict(record: Record) -> dict[str, Any]:
    """Return a record's columns as data: what is of each network as a list."""
    known = {name: read(record, 0) for name, read in COLUMNS.items() if name != "repeat"}
    result, cell = record.result, record.cell
    return known | {
        "ipc": cell.ipc,
        "method_options": cell.method.options,
        "evaluator_options": cell.evaluator.options,
        "shrunk": record.shrunk,
        **{"value": result.values, "last": result.last, "best": result.best},
        **{"mean": record.mean, "std": record.std},
    }


def _count(things: Collection[object], what: str) -> str:
    return f"{len(things)} {what}{'s' * (len(things) != 1)}"


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
