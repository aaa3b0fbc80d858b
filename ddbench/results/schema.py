"""The record of one cell: everything a number depends on, every single value, and what it cost.

``digest`` covers the cell, the protocol, the distilled set and the results; costs and environment stand outside it, so
the same command on the same machine gives the same digest.
"""

from __future__ import annotations

import base64
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from ddbench import escaping
from ddbench.errors import RecordError
from ddbench.files.reading import read_bytes
from ddbench.files.schemas import Part, first_flaw
from ddbench.files.writing import write_atomic
from ddbench.keys import digest as content_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
#: What of the environment changes results in the last digits, and is part of a record's key.
NUMERICS = ("device", "precision")


class PluginPart(Part):
    """A plugin as it was used: all resolved options, and which of them the user set."""

    name: str
    version: int
    options: dict[str, Any]
    explicit: dict[str, Any]


class Cell(Part):
    """What was asked for."""

    dataset: dict[str, Any]
    method: PluginPart
    ipc: int | None
    seed: int
    evaluator: PluginPart
    network: str
    evaluation_seed: int
    preset: str
    other_options: dict[str, dict[str, Any]] = Field(default={})


class ProtocolPart(Part):
    """The protocol as data."""

    settings: dict[str, Any]
    extension: str
    digest: str


class DistilledPart(Part):
    """The distilled set that was evaluated."""

    key: str
    digest: str
    count: int
    shape: list[int]
    space: str
    whole: bool
    extra: dict[str, Any]


class Result(Part):
    """Every single value, one per repeat (trained network); accuracies are fractions in [0, 1].

    ``values`` is the headline: ``last`` or ``best`` by the protocol's selection rule. ``correct`` holds, per repeat,
    which test images the last network got right, as packed bits in base64.
    """

    metric: str = "top1"
    selection: str
    values: list[float]
    last: list[float]
    best: list[float | None]
    curves: list[list[tuple[int, float]]]
    metrics: list[dict[str, float]]
    test_images: int
    correct: list[str]

    def correct_bits(self, repeat: int) -> NDArray[np.bool_]:
        """Return bool [test_images] of one repeat."""
        return unpack_bits(self.correct[repeat], self.test_images)


class Costs(Part):
    """What it cost, outside the digest; what distilling cost is None for a set that was read from a folder."""

    steps: list[dict[str, Any]]
    distill_seconds: float | None
    evaluate_seconds: float
    peak_bytes: int | None
    bytes_images: int
    bytes_labels: int


class Record(Part):
    """One cell of a comparison: data set × method × budget × seed × evaluator × network."""

    schema_version: int = SCHEMA
    key: str
    digest: str
    cell: Cell
    protocol: ProtocolPart
    distilled: DistilledPart
    result: Result
    shrunk: list[tuple[str, Any, Any]]
    costs: Costs
    environment: dict[str, Any]

    @property
    def mean(self) -> float:
        """Mean of the headline values (fraction)."""
        return statistics.fmean(self.result.values)

    @property
    def std(self) -> float | None:
        """Population standard deviation of the headline values, as every paper of the field reports; None for one."""
        return statistics.pstdev(self.result.values) if len(self.result.values) > 1 else None

    @property
    def accuracy(self) -> str:
        """Mean ± population standard deviation in percent, e.g. ``41.4 ± 0.7``."""
        return spread_text(self.mean, self.std)

    @property
    def budget(self) -> str:
        """The IPC as text; ``full`` for the whole training set."""
        return budget(self.cell)

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"<Record of {escaping.one_line(facts)}>"

    def _repr_html_(self) -> str:
        return escaping.html_table(self._facts(), [self._facts().values()])

    def _facts(self) -> dict[str, object]:
        cell = self.cell
        asked = {"method": cell.method.name, "data set": cell.dataset["name"], "IPC": self.budget, "seed": cell.seed}
        measured = {"evaluator": cell.evaluator.name, "network": cell.network, "accuracy (%)": self.accuracy}
        return asked | measured

    def computed_digest(self) -> str:
        """Return the digest recomputed from the content, to find edited numbers."""
        return result_digest(self.cell, self.protocol, self.distilled, self.result, self.shrunk)

    def relative_path(self, *, beside: bool = False) -> Path:
        """Return where this record lives below ``registry/results``.

        Args:
            beside: its place where another result of the same cell has the usual one.
        """
        path = place(self.cell, self.key)
        return path.with_name(f"{path.stem}_{self.digest[:8]}.json") if beside else path

    def dump(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def spread_text(centre: float, deviation: float | None) -> str:
    """Write fractions as mean ± deviation in percent; what has no deviation as the mean alone."""
    numbers = [centre] if deviation is None else [centre, deviation]
    return " ± ".join(f"{100 * number:.1f}" for number in numbers)


def place(cell: Cell, key: str) -> Path:
    """Return where the record of a cell lives below ``registry/results``."""
    name = f"ipc{budget(cell)}-seed{cell.seed}-{cell.evaluator.name}-{cell.network}-{key[:8]}.json"
    return Path(slug(cell.dataset["name"])) / slug(cell.method.name) / slug(name)


def budget(cell: Cell) -> str:
    """Return the IPC as text; ``full`` for the whole training set."""
    return "full" if cell.ipc is None else str(cell.ipc)


def result_digest(
    cell: Cell, protocol: ProtocolPart, distilled: DistilledPart, result: Result, shrunk: list[tuple[str, Any, Any]]
) -> str:
    """Digest of everything in a record but its costs and environment."""
    parts = [part.model_dump(mode="json") for part in (cell, protocol, distilled, result)]
    return content_digest([*parts, shrunk])


def protocol_digest(protocol: ProtocolPart) -> str:
    """Return the digest of a protocol as :attr:`ddbench.Protocol.digest` makes it."""
    return content_digest(protocol.model_dump(mode="json", exclude={"digest"}))[:16]


def record_key(cell: Cell, numerics: Mapping[str, str]) -> str:
    """Return the key of a cell on a kind of machine; presets only name options, which count themselves."""
    counted = {name: numerics[name] for name in NUMERICS}
    return content_digest({"cell": cell.model_dump(mode="json", exclude={"preset"}), "numerics": counted})


def read(path: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: not JSON, an unknown schema version, or fields that do not fit the schema.
    """
    data = read_bytes(path, RecordError)
    try:
        record = Record.model_validate_json(data, strict=True)
        if "schema_version" in record.model_fields_set and record.schema_version == SCHEMA:
            return record
        flaw = ""
    except ValidationError as error:
        flaw = first_flaw(error)
        if error.errors()[0]["type"] == "json_invalid":
            raise RecordError(f"{path.name} is not a readable record: {flaw}") from None
    # What has another version need not fit this schema, so that the version is the reason to name.
    version = _version(data)
    if not flaw or version != SCHEMA:
        raise RecordError(
            f"{path.name} has schema version {version!r}; this ddbench reads version {SCHEMA}.",
            hint="Use the ddbench release that wrote it, or run the cell again.",
        )
    raise RecordError(f"{path.name} does not fit the record schema: {flaw}")


class _Versioned(BaseModel):
    schema_version: int | None = None


def _version(data: bytes) -> int | None:
    try:
        return _Versioned.model_validate_json(data, strict=True).schema_version
    except ValidationError:
        return None


def write(record: Record, registry: Path) -> Path:
    """Write a record to its place below ``registry/results`` and return that path."""
    path = registry / "results" / record.relative_path()
    write_atomic(path, record.dump())
    return path


def pack_bits(correct: NDArray[np.bool_]) -> str:
    """Pack bool [N] into base64 text: 1.7 kB for 10,000 test images."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpack_bits(text: str, count: int) -> NDArray[np.bool_]:
    """Undo :func:`pack_bits`."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count)
    return bits.astype(np.bool_)


def slug(text: str) -> str:
    """Make a name safe as a file name, which never is the folder itself or the one above."""
    made = "".join(c if c.isalnum() or c in "-_.+" else "-" for c in text)
    return made if made.strip(".") else made.replace(".", "-")


#: Sub-folder with sets from before the end of a distillation, each a folder like its parent.
SNAPSHOTS = "snapshots"
