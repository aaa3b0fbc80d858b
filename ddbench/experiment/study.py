"""Study files: the options of `ddbench run` as TOML, in several blocks, expanded into cells that are run in turn."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ddbench.errors import UsageError, unknown
from ddbench.files.reading import read_text
from ddbench.files.schemas import first_flaw, parse_toml

Nested = dict[str, dict[str, Any]]


def _several(value: Any) -> Any:
    """Let one value stand for a list of one, and a text for a comma list, as on the command line."""
    if isinstance(value, str):
        return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(item for place, item in enumerate(several) if item not in several[:place])


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Numbers = Annotated[tuple[Annotated[int, Field(strict=True, ge=0)], ...], BeforeValidator(_several)]


class Block(BaseModel):
    """Cells to run: keys are named, and mean what they mean, as the options of `ddbench run`.

    ``option`` holds scope → option → value, ``sweep`` scope → option → values, every combination of which makes cells
    of its own. ``label`` is what the cells are called in tables.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, alias_generator=lambda name: name.replace("_", "-")
    )

    label: str = ""
    method: Names = ()
    eval: Names = ()
    dataset: Names = ("",)
    ipc: Numbers = (10,)
    network: Names = ()
    seed: Numbers = ()
    evaluation_seed: Annotated[int, Field(strict=True)] = 0
    repeats: Annotated[int, Field(strict=True, ge=1)] | None = None
    preset: str = ""
    option: Nested = {}
    sweep: dict[str, dict[str, list[Any]]] = {}

    def variants(self) -> list[tuple[str, Nested]]:
        """Return the name in tables ("" for none) and the options of every combination of swept values."""
        axes = [(scope, key, values) for scope, keys in self.sweep.items() for key, values in keys.items()]
        variants = []
        for chosen in itertools.product(*(values for _, _, values in axes)):
            swept: Nested = {}
            for (scope, key, _), value in zip(axes, chosen, strict=True):
                swept.setdefault(scope, {})[key] = value
            name = " ".join([self.label, *map(str, chosen)]) if self.label else ""
            variants.append((name, merged(self.option, swept)))
        return variants


@dataclass(frozen=True)
class Study:
    """A study file.

    Attributes:
        path: the file.
        title: in words.
        blocks: what to run, in order.
        plugins: plugin files to load, from the folder of the file.
        executor: where its cells are run, or "".
        boards: how its boards are arranged and which there are, as in boards.toml.
    """

    path: Path
    title: str
    blocks: tuple[Block, ...]
    plugins: tuple[Path, ...] = ()
    executor: str = ""
    boards: Mapping[str, Any] = field(default_factory=dict)

    @property
    def swept(self) -> tuple[str, ...]:
        """Return the options of methods that are swept, in order."""
        keys = [
            key
            for block in self.blocks
            for scope, keys in block.sweep.items()
            if scope == "method" or scope.startswith("method/") or scope in block.method
            for key in keys
        ]
        return tuple(dict.fromkeys(keys))


#: Keys of a block, of the whole file, and those that arrange boards.
BLOCK = tuple(name.replace("_", "-") for name in Block.model_fields)
BOARDS = ("columns", "claims", "board")
FILE = ("title", "plugin", "executor", "cells", *BOARDS)


def read(path: Path, given: Mapping[str, Any] | None = None) -> Study:
    """Read a study file.

    Args:
        path: ending in .toml.
        given: keys of the command line, which replace those of every block; ``option`` is added to them.

    Raises:
        UsageError: no such file, not TOML, or a key or value that is not known.
    """
    try:
        text = read_text(path, UsageError)
    except UsageError as error:
        raise UsageError(f"The study cannot be read: {error}", hint=error.hint or "See docs/cli/studies.md.") from error
    content = parse_toml(text, path.name, UsageError, "See docs/cli/studies.md.")
    _known(content, (*BLOCK, *FILE), path.name)
    parts = content.get("cells", [{}])
    if not (isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts)):
        raise UsageError(f"{path.name}: `cells` is not a list of tables.", hint="Begin each block with [[cells]].")
    shared = {key: value for key, value in content.items() if key in BLOCK}
    blocks = []
    for number, part in enumerate(parts, 1):
        where = f"{path.name}, block {number} of [[cells]]" if "cells" in content else path.name
        _known(part, BLOCK, where)
        blocks.append(_block([shared, part, given or {}], where))
    plugins = _several(content.get("plugin", []))
    if not all(isinstance(name, str) for name in (*plugins, content.get("title", ""), content.get("executor", ""))):
        raise UsageError(f"{path.name}: `title`, `executor` and `plugin` are texts.", hint="See docs/cli/studies.md.")
    return Study(
        path=path,
        title=content.get("title", path.stem),
        blocks=tuple(blocks),
        plugins=tuple(path.parent / name for name in plugins),
        executor=content.get("executor", ""),
        boards={key: content[key] for key in BOARDS if key in content},
    )


def _block(parts: Sequence[Mapping[str, Any]], where: str) -> Block:
    content: dict[str, Any] = {}
    for part in parts:
        nested = {key: merged(content.get(key, {}), part[key], where) for key in ("option", "sweep") if key in part}
        content |= {**part, **nested}
    try:
        block = Block.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{where}: {first_flaw(error)}", hint="See docs/cli/studies.md.") from error
    if not block.method:  # an evaluator may be the one that the method's preset names
        raise UsageError(
            f"{where} names no method.",
            hint='Give --method NAME; in a study file method = ["NAME"]. `ddbench list` shows what there is.',
        )
    empty = [key for key in ("dataset", "ipc") if not getattr(block, key)]  # an empty axis makes no cell at all
    empty += [
        f"sweep.{scope}.{key}" for scope, keys in block.sweep.items() for key, values in keys.items() if not values
    ]
    if empty:
        raise UsageError(f"{where}: {empty[0]} has no values.")
    return block


def merged(first: Any, second: Any, where: str = "") -> Nested:
    """Return scope → option → value with those of the second instead of the first's.

    Raises:
        UsageError: not of that form.
    """
    tables: Nested = {}
    for table in (first, second):
        for scope, values in table.items() if isinstance(table, Mapping) else [("", table)]:
            if not isinstance(values, Mapping):
                raise UsageError(
                    f"{where}: option {scope!r} has no scope.", hint="Write SCOPE.KEY: option.method.strength = 0.6"
                )
            tables.setdefault(scope, {}).update(values)
    return tables


def _known(content: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in content:
        if key not in keys:
            raise unknown(f"key of {where}", key, keys)


def of_command(given: Mapping[str, Any]) -> Study:
    """Return what the options of a command mean without a file: a study of one block."""
    return command(_block([given], "the command"))


def command(block: Block) -> Study:
    """Return a study without a file, of one block."""
    return Study(Path(), "", (block,))


def command_words(arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Return the words of the `ddbench run` command that means one cell.

    Args:
        arguments: keys of a study that mean this cell alone.
        settings: ``plugins``, ``registry``, ``device``, ``precision``, ``offline`` and ``force`` of the run.
    """
    words = ["run"]
    for key in ("method", "eval", "dataset", "ipc", "network", "seed"):
        words += [f"--{key}={','.join(map(str, arguments[key]))}"] * any(value != "" for value in arguments[key])
    words += [f"--{key}={arguments[key]}" for key in ("evaluation-seed", "repeats", "preset")]
    for scope, values in arguments["option"].items():
        for key, value in values.items():
            text = value if isinstance(value, str) else "none" if value is None else json.dumps(value)
            words.append(f"--option={scope}.{key}={text}")
    words += [f"--plugin={file}" for file in settings["plugins"]]
    words += [f"--{key}={settings[key]}" for key in ("registry", "device", "precision")]
    return [*words, *(f"--{flag}" for flag in ("offline", "force") if settings[flag])]
