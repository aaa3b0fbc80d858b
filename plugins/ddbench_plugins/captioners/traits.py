"""The captioner that puts a trained network's opinion of an image into words: traits of the classes it may show.

Traits are predicted from the probabilities of classes and a table of what is generally known of these (indirect
attribute prediction; Lampert, Nickisch and Harmeling, CVPR 2009), so that two images of a class are described
differently where the network takes them differently, and the label of an image decides nothing but the name.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from ddbench import Captioner, Options, UsageError, digest
from ddbench.files import first_line, read_text
from ddbench_plugins.captioners.attributes import BATCH, LARGEST
from ddbench_plugins.captioners.phrases import enumerate_words, layout
from ddbench_plugins.teachers.observers import get_teacher, teacher_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ddbench import Context, Split, StepCall

#: What the table says of a class, and how a sentence goes on with it.
Group = Literal["has", "is", "found"]
GROUPS: dict[Group, str] = {"has": "has {}", "is": "is {}", "found": "is found {}"}
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Table = dict[str, dict[Group, list[Phrase]]]

#: A trait is stated from the first probability on, and said to be perhaps there from the second on.
SURE, PERHAPS = 0.5, 0.25
#: Probability from which on another class is resembled a little, and how many of them are named.
LITTLE, FEW = 0.1, 2


class TraitsOptions(Options):
    """Options of the captioner ``traits``."""

    network: str = Field(
        "convnet-3-bn",
        description="network, trained on the training images, that looks at the image",
        json_schema_extra={"names": "network"},
    )
    temperature: float = Field(2.0, gt=0, description="its outputs are divided by this: higher, less sure of one class")
    phrases: str = Field(
        "",
        description="table of phrases by class (TOML); empty: ddbench's where it has all classes, else resemblances",
        json_schema_extra={"file": True},
    )


class Traits(Captioner):
    """Says what the network sees in the image, and its measured colours (or strokes) and layout.

    Without a table that has all classes of the data set it says which classes the image looks like.
    """

    Options = TraitsOptions
    shard = BATCH

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return the digest of the phrases that are used, in place of the file they are in."""
        return {"phrases": digest(phrases_of(ctx))}

    def needs(self, ctx: Context) -> list[StepCall]:
        """Return the step of the network."""
        return [teacher_of(ctx, ctx.options.network)]

    def caption(self, ctx: Context, split: Split, class_names: Sequence[str], size: int) -> Iterator[str]:
        """Yield one caption per image.

        Raises:
            TeacherError: the network is worse than its recipe asks for, so that what it sees would be misleading.
        """
        teacher, table = get_teacher(ctx, ctx.options.network), phrases_of(ctx)
        says = Resemblances(class_names) if table is None else Known(class_names, table)
        done = 0
        with ctx.progress("captions", len(split)) as advance:
            coarse = split.images.batches(min(size, LARGEST), BATCH)
            for images, small in zip(split.images.batches(size, BATCH, advance), coarse, strict=True):
                opinions = softened(teacher.probabilities(images), ctx.options.temperature)
                rows = range(done, done + len(images))
                for row, opinion, place in zip(rows, opinions, layout(small), strict=True):
                    sure, perhaps = says(opinion)
                    yield f"The {class_names[split.labels[row]]} in the image {sure}.{perhaps} It is {place}."
                done += len(images)


class Known:
    """Puts probabilities [K] into the phrases of a table."""

    def __init__(self, class_names: Sequence[str], table: Table) -> None:
        rows = [table[_key(name)] for name in class_names]
        self.groups = []
        for group, frame in GROUPS.items():
            phrases = list(dict.fromkeys(phrase for row in rows for phrase in row.get(group, [])))
            holds = np.array([[phrase in row.get(group, []) for phrase in phrases] for row in rows], float)
            self.groups.append((frame, np.array(phrases), holds.reshape(len(rows), -1)))

    def __call__(self, opinion: NDArray[np.floating]) -> tuple[str, str]:
        """Return what is stated of an image, and a sentence with what may be so, or nothing."""
        sure: list[str] = []
        perhaps: list[str] = []
        for frame, phrases, holds in self.groups:
            likely = opinion @ holds
            for said, which in ((sure, likely >= SURE), (perhaps, (likely < SURE) & (likely >= PERHAPS))):
                if which.any():
                    said.append(frame.format(enumerate_words(list(phrases[which]))))
        more = f" Perhaps it {enumerate_words(perhaps)}." if perhaps else ""
        return enumerate_words(sure) or "is hard to tell", more


class Resemblances:
    """Puts probabilities [K] into the names of classes."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.names = [name.split(",")[0] for name in class_names]

    def __call__(self, opinion: NDArray[np.floating]) -> tuple[str, str]:
        """Return the likeliest class and those that the image resembles a little; nothing more."""
        first, *others = np.argsort(-opinion, kind="stable")[: 1 + FEW]
        little = [f", a little like a {self.names[other]}" for other in others if opinion[other] >= LITTLE]
        return f"looks like a {self.names[first]}{''.join(little)}", ""


def softened(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return probabilities [n, K] as if the network's outputs had been divided by ``temperature``."""
    powers = np.asarray(probabilities, np.float64).clip(1e-30) ** (1 / temperature)
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def phrases_of(ctx: Context) -> Table | None:
    """Return the phrases of the data set's classes; None where ddbench's table lacks any of them.

    Raises:
        UsageError: a table of the user's cannot be read, or lacks a class.
    """
    given = Path(ctx.options.phrases).expanduser() if ctx.options.phrases else None
    table = read_table(given or Path(__file__).with_suffix(".toml"))
    lacking = [name for name in ctx.dataset.class_names if _key(name) not in table]
    if lacking and given:
        raise UsageError(
            f"{given.name} has no phrases for {lacking[0]!r} and {len(lacking) - 1} other classes of"
            f" {ctx.dataset.name}.",
            hint="Add a table for each, or leave captioner.phrases out: then the captions say what images look like.",
        )
    return None if lacking else {_key(name): table[_key(name)] for name in ctx.dataset.class_names}


def read_table(path: Path) -> Table:
    """Read phrases by class name and group.

    Raises:
        UsageError: it cannot be read, or is no such table.
    """
    form = 'It holds tables like [cat] with lists such as has = ["fur"], is = ["soft"] and found = ["in homes"].'
    try:
        content = tomllib.loads(read_text(path, UsageError))
        table = TypeAdapter(Table).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path.name} is no table of phrases: {where}: {first['msg']}.", hint=form) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path.name} is no table of phrases: {first_line(error)}", hint=form) from error
    return {_key(name): groups for name, groups in table.items()}


def _key(name: str) -> str:
    """Return the first of a class's synonyms in lower case."""
    return name.split(",")[0].strip().lower()
