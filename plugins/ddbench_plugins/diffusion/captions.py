"""Captions of the training images as a cached step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from ddbench import PluginError, plugin_errors
from ddbench_plugins.captioners.metadata import FILE, StoredTexts, write_metadata
from ddbench_plugins.captioners.pieces import NAMES
from ddbench_plugins.diffusion.ahead import captions_effort

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ddbench import Context, Done, Step


@dataclass(frozen=True)
class Captions:
    """Captions of the training images.

    Attributes:
        done: the finished step; its folder holds ``metadata.jsonl``.
        captioner: the captioner's name.
    """

    done: Done
    captioner: str

    @cached_property
    def texts(self) -> Sequence[str]:
        """One text per image, in order, each read when it is needed."""
        return StoredTexts(self.done.dir / FILE)


def caption_training_images(ctx: Context, name: str) -> Captions:
    """Return the captions of the training split; they depend on neither IPC nor seed.

    Raises:
        UsageError: no such captioner.
        PluginError: it did not return one text per image.
    """
    captioner, mine, entry = ctx.use("captioner", name)
    data, split = ctx.dataset, ctx.dataset.train
    with plugin_errors(entry):
        identity = captioner.identity(mine)
    inputs = {
        "dataset": data.fingerprint,
        "size": data.image_size,
        "class_names": list(data.class_names),
        "captioner": entry.spec.name,
        "argument": entry.argument,
        "version": entry.spec.cache_version,
        # What a captioner says of its files takes the place of their paths.
        "options": {**mine.resolved.dump(), **identity},
    }

    def build(step: Step) -> None:
        with plugin_errors(entry):
            texts = captioner.caption(replace(mine, checkpoint=step), split, data.class_names, data.image_size)
            write_metadata(step.dir / FILE, split.ids, _checked(texts, name, len(split)))
        for piece in step.dir.glob(NAMES):
            piece.unlink()

    return Captions(ctx.step("captions", inputs, build, effort=captions_effort(ctx, name)), name)


def _checked(texts: Iterable[str], name: str, images: int) -> Iterator[str]:
    """Pass captions on, as long as they are texts and neither too few nor too many."""
    count = 0
    for text in texts:
        count += 1
        if not isinstance(text, str):
            raise PluginError(f"Captioner {name} returned {text!r} as the caption of image {count}.")
        if count <= images:
            yield text
    if count != images:
        raise PluginError(f"Captioner {name} returned {count} captions for {images} images.")
