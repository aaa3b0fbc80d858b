"""Captions that the user already has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ddbench import Captioner, DataError, Options, UsageError, digest, digest_bytes
from ddbench.files import check_file
from ddbench_plugins.captioners.metadata import FILE, read_metadata
from ddbench_plugins.datasets.captioned import read_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ddbench import Context, Split


class FromFileOptions(Options):
    """Options of the captioner ``file``."""

    path: str = Field(
        "",
        description="the metadata.jsonl with the captions, or the folder it is in; or what pairs: reads (a list of"
        " Karpathy, BLIP or COCO, a folder of splits), whose several captions of one image become lines",
        json_schema_extra={"file": True},
    )


class FromFile(Captioner):
    """Looks captions up by image id: the whole name, with or without the extension.

    The last part of a name counts only where the line names no folder and one image alone has that part.
    """

    Options = FromFileOptions

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return the digest of the file in place of its path."""
        path = _file(ctx.options.path)
        if path.is_file() and path.suffix != ".json":
            return {"path": digest_bytes(path.read_bytes())}
        return {"path": digest([list(row) for row in read_pairs(path)])}

    def caption(self, ctx: Context, split: Split, class_names: Sequence[str], size: int) -> list[str]:
        """Return the caption of every image of the split.

        Raises:
            DataError: images without a caption; the first is named.
        """
        path = _file(ctx.options.path)
        if path.suffix == ".json" or path.is_dir():
            entries = [(row.name, "\n".join(row.captions)) for row in read_pairs(path)]
        else:
            entries = read_metadata(path)
        texts, ways = find(entries, split.ids)
        if missing := [image for image, text in zip(split.ids, texts, strict=True) if text is None]:
            example = f" (it has {entries[0][0]!r}, for example)" if entries else ""
            raise DataError(
                f"{path.name} has no caption for {missing[0]!r} and {len(missing) - 1} other images of {len(split)}"
                f"{example}.",
                hint="Each line's file_name must be an image id of the data set: its path below the split's folder, or"
                " its number. A file name alone will do where no other image has it, and no other line.",
            )
        listed = ", ".join(f"{count} by {way}" for way, count in ways.items() if count)
        unused = len(entries) - len(split)
        ctx.log(f"captions of {path.name}: {listed}" + (f"; {unused} lines are of other images" if unused > 0 else ""))
        return [text for text in texts if text is not None]


def find(entries: Sequence[tuple[str, str]], ids: Sequence[str]) -> tuple[list[str | None], dict[str, int]]:
    """Return the caption of every image, and how many were found in which way, the strictest one first."""
    alone = [(name, text) for name, text in entries if not PurePosixPath(_whole(name)).parent.name]
    texts: list[str | None] = [None] * len(ids)
    ways: dict[str, int] = {}
    for way, spell, lines, unique in (
        ("their whole name", _whole, entries, False),
        ("their whole name without the extension", _bare, entries, True),
        ("their file name alone", _last, alone, True),
        ("their file name alone without the extension", _stem, alone, True),
    ):
        left = [place for place, text in enumerate(texts) if text is None]
        if not left:
            break
        table = _table([(spell(name), text) for name, text in lines])
        counts = Counter(map(spell, ids)) if unique else Counter()
        for place in left:
            key = spell(ids[place])
            if counts[key] <= 1 and key in table:
                texts[place] = table[key]
                ways[way] = ways.get(way, 0) + 1
    return texts, ways


def _file(path: str) -> Path:
    if not path:
        raise UsageError("The captioner 'file' needs a path.", hint="Give it with -o captioner.path=captions.jsonl.")
    file = Path(path).expanduser()
    if file.is_dir() and (file / "train" / FILE).exists():
        return file
    if file.is_dir():
        file = file / FILE
    if not file.exists():
        raise DataError(f"There are no captions in {file}.", hint="Give the path of a metadata.jsonl.")
    check_file(file)
    return file


def _whole(name: str) -> str:
    return str(PurePosixPath(name.replace("\\", "/")))


def _bare(name: str) -> str:
    return str(PurePosixPath(_whole(name)).with_suffix("")) if PurePosixPath(name).name else name


def _last(name: str) -> str:
    return PurePosixPath(_whole(name)).name


def _stem(name: str) -> str:
    return PurePosixPath(_whole(name)).stem


def _table(entries: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Captions by name; a name that stands for several different captions stands for none."""
    texts = Counter(name for name, _ in set(entries))
    return {name: text for name, text in entries if texts[name] == 1}
