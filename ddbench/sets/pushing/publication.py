"""What goes up to the hub together: sets of one method on one data set, a configuration per IPC and seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ddbench.errors import UsageError
from ddbench.plugin.contracts import Budget
from ddbench.results.schema import Record
from ddbench.sets.folder import LoadedSet

#: Folder of a configuration with the records of its set.
RECORDS = "records"


@dataclass(frozen=True)
class Publication:
    """What goes up.

    Attributes:
        repo: ``USER/REPO``.
        sets: of one method on one data set, by the name of their configuration.
        records: of these sets.
        licence: id by which the hub knows it.
        bibtex: what to cite for the method; "" where it does not say.
    """

    repo: str
    sets: dict[str, LoadedSet]
    records: tuple[Record, ...]
    licence: str
    bibtex: str = ""

    @property
    def first(self) -> LoadedSet:
        """The set that stands for what all have in common."""
        return next(iter(self.sets.values()))

    @property
    def title(self) -> str:
        """The method and its data set, in words."""
        return f"{self.first.about['method']['name']} on {self.first.about['dataset']['name']}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, by their ids where two are called the same."""
        names = self.first.class_names
        return names if len(set(names)) == len(names) else self.first.class_ids


def by_config(sets: Iterable[LoadedSet]) -> dict[str, LoadedSet]:
    """Return sets by the names of their configurations, one per IPC and seed.

    Raises:
        UsageError: whole training sets, two sets of one IPC and seed, or of several methods or data sets.
    """
    named: dict[str, LoadedSet] = {}
    for one in sets:
        if one.distilled.whole:
            raise UsageError(f"{one.path} is the whole training set, which is not ours to publish.")
        config = f"ipc{Budget(one.about['ipc'])}-seed{one.about['seed']}"
        if config in named:
            raise UsageError(
                f"{one.path} and {named[config].path} are both of IPC {one.about['ipc']}, seed {one.about['seed']}.",
                hint="A repository has one set per IPC and seed: push the other one to a repository of its own.",
            )
        named[config] = one
    kinds = {
        (one.about["method"]["name"], one.about["dataset"]["fingerprint"], one.class_ids) for one in named.values()
    }
    if len(kinds) != 1:
        listed = ", ".join(
            sorted({f"{one.about['method']['name']} on {one.about['dataset']['name']}" for one in named.values()})
        )
        raise UsageError(
            f"The sets are of several methods or data sets: {listed}.", hint="Push each to its own repository."
        )
    return dict(sorted(named.items(), key=lambda pair: (pair[1].about["ipc"] or 0, pair[1].about["seed"])))


def features(publication: Publication, one: LoadedSet) -> dict[str, Any]:
    """Return the columns as the library ``datasets`` describes them inside of a parquet file."""
    number = {"dtype": "float32", "_type": "Value"}
    if one.distilled.space == "rgb_uint8":
        image: dict[str, Any] = {"image": {"_type": "Image"}}
    else:
        image = {"pixels": {"shape": list(one.images.shape[1:]), "dtype": "float32", "_type": "Array3D"}}
    return {
        **image,
        "label": {"names": list(publication.labels), "_type": "ClassLabel"},
        **({"prompt": {"dtype": "string", "_type": "Value"}} if one.prompts is not None else {}),
        **({"soft_label": {"feature": number, "_type": "Sequence"}} if one.distilled.soft_labels is not None else {}),
    }
