"""What the fields of one record say about each other: facts that are stated twice must agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ddbench.errors import UsageError
from ddbench.plugin.contracts import LABEL_TYPES, PIXEL_SPACES
from ddbench.plugin.options import Preset
from ddbench.results.schema import Record

#: Seeds, counts and sizes are whole numbers below this, so that every program can read them.
LARGEST = 2**63
#: Other numbers are below this, so that their squares are numbers, too.
VAST = 1e100
#: How far two computations of one accuracy may differ.
EPSILON = 1e-6
#: What a data set counts; there is at least one of each.
COUNTS = ("image_size", "channels", "num_classes", "train_images", "test_images")


def contradictions(record: Record) -> list[str]:
    """Return what cannot all be true of one record whose fields are of the right kind."""
    rules = (_data, _asked, _protocol, _set, _headline, _curves, _shrunk, _costs)
    return [message for rule in rules for message in rule(record)]


def unusable(value: Any) -> str:
    """Return why plain data cannot be shown or counted by every reader, or ""."""
    if isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            if type(item) is not str and (reason := unusable(item)):
                return reason
    elif isinstance(value, float):
        if not math.isfinite(value):
            return "a number in it is not finite"
        return "" if abs(value) < VAST else "a number in it is implausibly large"
    elif isinstance(value, int):
        return "" if -LARGEST < value < LARGEST else "a whole number in it has more than 63 bits"
    return ""


def _data(record: Record) -> Iterator[str]:
    data = record.cell.dataset
    for name in COUNTS:
        if type(data[name]) is not int or not 0 < data[name] < LARGEST:
            yield f"its data set has {data[name]!r} as {name}"
    for name in ("class_ids", "class_names"):
        known = data.get(name)
        if known is None and name == "class_names":
            continue
        if not (isinstance(known, list) and all(isinstance(text, str) for text in known)):
            yield f"its data set has no valid {name}"
        elif len(known) != data["num_classes"]:
            yield f"its data set has {data['num_classes']} classes but {len(known)} {name}"
        elif name == "class_ids" and len(set(known)) != len(known):
            yield "its data set names a class id twice"


def _asked(record: Record) -> Iterator[str]:
    cell = record.cell
    for name, seed in (("seed", cell.seed), ("evaluation seed", cell.evaluation_seed)):
        if not 0 <= seed < LARGEST:
            yield f"its {name} is no whole number from 0 with at most 63 bits"
    try:
        Preset.parse(cell.preset)
    except UsageError:
        yield f"its preset {cell.preset!r} does not exist"
    for kind, plugin in (("method", cell.method), ("evaluator", cell.evaluator)):
        for name, value in plugin.explicit.items():
            if name not in plugin.options or plugin.options[name] != value:
                yield f"its {kind} was set to {name}={value!r} but used {plugin.options.get(name)!r}"


def _protocol(record: Record) -> Iterator[str]:
    settings, result = record.protocol.settings, record.result
    stated = ("network", "cell", record.cell.network), ("selection", "result", result.selection)
    for name, part, value in stated:
        if name in settings and settings[name] != value:
            yield f"its protocol specifies {name}={settings[name]!r}, its {part} {value!r}"
    if settings.get("label_type", LABEL_TYPES[0]) not in LABEL_TYPES:
        yield f"its protocol has {settings['label_type']!r} as label_type, which is none of {', '.join(LABEL_TYPES)}"


def _set(record: Record) -> Iterator[str]:
    cell, made = record.cell, record.distilled
    data, count = cell.dataset, made.count
    if made.space not in PIXEL_SPACES:
        yield f"its distilled set has the unknown pixel space {made.space!r}"
    if len(made.shape) != 4 or min(made.shape) < 1:
        yield f"its distilled set has the shape {made.shape}, not that of images [N, H, W, C]"
    elif made.shape[0] != count:
        yield f"its distilled set counts {count} images in an array of {made.shape[0]}"
    elif made.shape[3] != data["channels"] or made.shape[1] != made.shape[2]:
        yield f"its distilled images are {made.shape[1:]}, its data set's square with {data['channels']} channels"
    if made.whole and cell.ipc is not None:
        yield f"it is the whole training set, but has an IPC of {cell.ipc}"
    elif made.whole and count != data["train_images"]:
        yield f"it is the whole training set with {count} of {data['train_images']} images"
    elif "numbers" in made.extra:  # the IPC counts numbers, with those of texts
        texts = made.extra.get("texts", {}).get("embeddings", [0, 0])
        room = (cell.ipc or 0) * data["num_classes"] * (data["image_size"] ** 2 * data["channels"] + texts[1])
        if made.extra["numbers"] > room:
            yield f"it stores {made.extra['numbers']:,} numbers, where its IPC has room for {room:,}"
    elif cell.ipc is not None and count != cell.ipc * data["num_classes"]:
        yield f"it has {count} images for {data['num_classes']} classes with {cell.ipc} each"


def _headline(record: Record) -> Iterator[str]:
    result = record.result
    if result.test_images != record.cell.dataset["test_images"]:
        yield f"it was tested on {result.test_images} of {record.cell.dataset['test_images']} test images"
    if result.selection == "last":
        return
    wanted = [last if best is None else best for last, best in zip(result.last, result.best, strict=True)]
    if not _equal(result.values, wanted):
        yield f"its selection is {result.selection!r} but its values are not the best accuracies"


def _curves(record: Record) -> Iterator[str]:
    result, epochs = record.result, record.protocol.settings.get("epochs")
    for repeat, (curve, last, best) in enumerate(zip(result.curves, result.last, result.best, strict=True)):
        numbers, values = [epoch for epoch, _ in curve], [value for _, value in curve]
        if not all(0 <= value <= 1 for value in values):
            yield f"the curve of repeat {repeat} has accuracies outside [0, 1]"
        if any(b <= a for a, b in zip([0, *numbers], numbers, strict=False)):
            yield f"the epochs of the curve of repeat {repeat} do not rise from 1"
        elif numbers and type(epochs) is int:
            if numbers[-1] > epochs:
                yield f"the curve of repeat {repeat} ends at epoch {numbers[-1]} of {epochs}"
            elif numbers[-1] == epochs and not _equal([values[-1]], [last]):
                yield f"the curve of repeat {repeat} ends with another accuracy than its last"
        if best is not None and best < max([last, *values]) - EPSILON:
            yield f"the best accuracy of repeat {repeat} is below another one of it"


def _shrunk(record: Record) -> Iterator[str]:
    options = {"method": record.cell.method.options, "eval": record.cell.evaluator.options}
    for name, _, used in record.shrunk:
        scope, _, option = name.partition(".")
        if option in options.get(scope, {}) and options[scope][option] != used:
            yield f"it lists {name}={used!r} as scaled down, but {options[scope][option]!r} was used"


def _costs(record: Record) -> Iterator[str]:
    for step in record.costs.steps:
        if not all(isinstance(step.get(name), str) for name in ("step", "key")):
            yield "a step of its costs has no name or key"
        paces = step.get("seconds_per_step", {})
        if not (isinstance(paces, Mapping) and all(_amount(pace) for pace in paces.values())):
            yield "a step's seconds per step are no amounts"
        if any(name.startswith("peak_") and not _amount(value) for name, value in step.items()):
            yield "a step's peak memory is no amount"


def _amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _equal(first: Iterable[float], second: Iterable[float]) -> bool:
    return all(abs(a - b) <= EPSILON for a, b in zip(first, second, strict=True))
