"""Captions that the user already has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ddbench import Captioner, DataError, Options, UsageError, digest_bytes
from ddbench_plugins.captioners.metadata import FILE, read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ddbench import Context, Split


class FromFileOptions(Options):
    """Options of the captioner ``file``."""

    path: str = Field(
        "", description="the metadata.jsonl with the captions, or the folder it is in", json_schema_extra={"file": True}
    )


class FromFile(Captioner):
    """Looks captions up by image id: the whole file name, else its last part, with or without the extension."""

    Options = FromFileOptions

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return the digest of the file in place of its path."""
        return {"path": digest_bytes(_file(ctx.options.path).read_bytes())}

    def caption(self, ctx: Context, split: Split, class_names: Sequence[str], size: int) -> list[str]:
        """Return the caption of every image of the split.

        Raises:
            DataError: images without a caption; the first is named.
        """
        path = _file(ctx.options.path)
        entries = read_metadata(path)
        tables = [_table([(spell(name), text) for name, text in entries]) for spell in SPELLINGS]
        captions: list[str] = []
        missing: list[str] = []
        for image in split.ids:
            hits = (table.get(spell(image)) for table, spell in zip(tables, SPELLINGS, strict=True))
            text = next((hit for hit in hits if hit is not None), None)
            captions.append(text or "")
            if text is None:
                missing.append(image)
        if missing:
            example = f" (it has {entries[0][0]!r}, for example)" if entries else ""
            raise DataError(
                f"{path.name} has no caption for {missing[0]!r} and {len(missing) - 1} other images of {len(split)}"
                f"{example}.",
                hint="Each line's file_name must be an image id of the data set: its file name or number.",
            )
        return captions


def _file(path: str) -> Path:
    if not path:
        raise UsageError("The captioner 'file' needs a path.", hint="Give it with -o captioner.path=captions.jsonl.")
    found = Path(path).expanduser()
    if found.is_dir():
        found = found / FILE
    if not found.is_file():
        raise DataError(f"There are no captions in {found}.", hint="Give the path of a metadata.jsonl.")
    return found


def _whole(name: str) -> str:
    return str(PurePosixPath(name.replace("\\", "/")))


def _last(name: str) -> str:
    return PurePosixPath(_whole(name)).name


def _stem(name: str) -> str:
    return PurePosixPath(_whole(name)).stem


#: Ways to spell a file name, from the strictest on.
SPELLINGS = (_whole, _last, _stem)


def _table(entries: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Captions by name; a name that stands for several different captions stands for none."""
    texts = Counter(name for name, _ in set(entries))
    return {name: text for name, text in entries if texts[name] == 1}
