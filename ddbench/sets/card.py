"""The card of a repository (``README.md``): its configurations and class names, as far as it states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ddbench.errors import DataError
from ddbench.escaping import one_line
from ddbench.files.reading import first_line, read_text
from ddbench.files.schemas import first_flaw

CARD = "README.md"
#: Configuration of a card that names none.
DEFAULT = "default"
#: What the training images of a configuration are called.
TRAIN = "train"
#: Characters of a card's head: the names of a thousand classes take 40,000.
MOST_HEAD = 2**21


@dataclass(frozen=True)
class Card:
    """What a card states.

    Attributes:
        configs: name of a configuration → patterns of the files of its training images.
        class_names: name of a configuration → names of the label numbers, in their order.
        patterns: of the files of all splits.
    """

    configs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Split(_Strict):
    split: str
    path: str | list[str]


class _Config(_Strict):
    config_name: str = DEFAULT
    data_files: str | dict[str, str | list[str]] | list[_Split] | list[str] | None = None

    def splits(self) -> dict[str, tuple[str, ...]]:
        """Return the patterns of every split."""
        files: Any = self.data_files
        if isinstance(files, list) and files and isinstance(files[0], _Split):
            files = {part.split: part.path for part in files}
        elif not isinstance(files, dict):
            files = {TRAIN: files or []}
        return {split: (paths,) if isinstance(paths, str) else tuple(paths) for split, paths in files.items()}

    def files(self, card: str) -> tuple[str, ...]:
        """Return the patterns of the training split, or of the only one."""
        splits = self.splits()
        if TRAIN not in splits and len(splits) != 1:
            listed = ", ".join(map(repr, list(splits)[:12])) or "none"
            raise DataError(
                f"{card}: the configuration {self.config_name!r} has no split {TRAIN!r} ({listed}).",
                hint="Name the files of the distilled images themselves.",
            )
        return splits[TRAIN] if TRAIN in splits else next(iter(splits.values()))


class _ClassLabel(_Strict):
    names: dict[str | int, str | int] | list[str | int]

    def ordered(self, card: str) -> tuple[str, ...]:
        """Return the names in the order of their numbers, which is not that of a table sorted as text."""
        if isinstance(self.names, list):
            return tuple(map(str, self.names))
        numbers = {str(number): str(name) for number, name in self.names.items()}
        wanted = [str(number) for number in range(len(numbers))]
        if set(numbers) != set(wanted):
            raise DataError(f"{card} numbers its {len(numbers)} class names other than 0 … {len(numbers) - 1}.")
        return tuple(numbers[number] for number in wanted)


class _Feature(_Strict):
    name: str = ""
    dtype: str | dict[str, Any] | None = None


class _Info(_Strict):
    config_name: str = DEFAULT
    features: list[_Feature] = []


class _Head(_Strict):
    configs: list[_Config] = []
    dataset_info: list[_Info] | _Info = []


def read(path: Path) -> Card:
    """Read a card; one without a head of YAML, or none at all, states nothing.

    Raises:
        DataError: the head is no YAML, or states what no card can.
    """
    if not path.exists():
        return Card()
    text = read_text(path, DataError)
    if not text.startswith("---"):
        return Card()
    if len(text.partition("\n---")[0]) > MOST_HEAD:
        raise DataError(f"The head of {path.name} has more than {MOST_HEAD:,} characters.")
    from huggingface_hub.repocard import metadata_load

    hint = "The part between its two lines of --- is YAML; see the data set cards of the hub."
    try:
        head = _Head.model_validate(metadata_load(path) or {})
    except ValidationError as error:
        raise DataError(f"{path.name} is no card of a data set: {first_flaw(error)}.", hint=hint) from error
    except Exception as error:  # YAML's errors, numbers without end, tables nested too deeply, values of no type
        raise DataError(f"{path.name} has a head that is no YAML: {one_line(first_line(error))}.", hint=hint) from error
    names = [config.config_name for config in head.configs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{path.name} has two configurations {min(twice)!r}.")
    infos = head.dataset_info if isinstance(head.dataset_info, list) else [head.dataset_info]
    return Card(
        {config.config_name: config.files(path.name) for config in head.configs},
        {info.config_name: labels for info in infos if (labels := _labels(info, path.name))},
        tuple(one for config in head.configs for patterns in config.splits().values() for one in patterns),
    )


def _labels(info: _Info, card: str) -> tuple[str, ...]:
    """Return the class names of the only feature that has some."""
    kinds = [part.dtype for part in info.features if isinstance(part.dtype, dict)]
    stated = [kind["class_label"] for kind in kinds if "class_label" in kind]
    return class_names(stated[0], card) if len(stated) == 1 else ()


def class_names(stated: Any, card: str) -> tuple[str, ...]:
    """Return the names that a ``class_label`` holds, in the order of their numbers.

    Raises:
        DataError: they are no texts, or not numbered from 0 without gaps.
    """
    try:
        return _ClassLabel.model_validate(stated).ordered(card)
    except ValidationError as error:
        raise DataError(f"{card}: the names of its classes are no texts: {first_flaw(error)}.") from error
