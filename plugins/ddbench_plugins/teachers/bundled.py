"""Teachers that come with ddbench: half-precision weights and a record of how they were made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddbench import ModelError

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class BundledTeacher:
    """One bundled teacher; ``record`` says accuracy, class names, normalisation, recipe, seed, sha256, versions."""

    weights: Path
    record: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Test accuracy (fraction) of the weights as stored."""
        return float(self.record["accuracy"])

    def check(self) -> None:
        """Refuse weights that are not those that were measured.

        Raises:
            ModelError: the file is another one.
        """
        if sha256(self.weights) != self.record["sha256"]:
            raise ModelError(
                f"{self.weights.name} is not the file that its record describes.", hint="Install ddbench again."
            )


def find_bundled_teacher(dataset: str, network: str, folder: Path = ASSETS) -> BundledTeacher | None:
    """Bundled teacher of a data set for a network name, or None."""
    weights = folder / f"{dataset}_{network}.safetensors"
    record = weights.with_suffix(".json")
    if not (weights.exists() and record.exists()):
        return None
    return BundledTeacher(weights, json.loads(record.read_text(encoding="utf-8")))


def bundled_teachers(folder: Path = ASSETS) -> list[tuple[str, Path]]:
    """Data set and weights of every bundled teacher."""
    weights = sorted(folder.glob("*.safetensors"))
    return [(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["dataset"], path) for path in weights]


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
