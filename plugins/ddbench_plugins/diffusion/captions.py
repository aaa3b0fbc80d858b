"""Captions of the training images as a cached step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ddbench import PluginError, plugin_errors, step
from ddbench.files import is_text
from ddbench_plugins.captioners.metadata import FILE, StoredTexts, write_metadata
from ddbench_plugins.captioners.pieces import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ddbench import Context, Demand, Done, Step


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


def _demand(ctx: Context, captioner: str) -> Demand | None:
    plugin, mine, _ = ctx.use("captioner", captioner)
    demand: Demand | None = plugin.demand(mine)
    return demand


@step(
    uses=lambda ctx, captioner: [("captioner", captioner)],
    needs=lambda ctx, captioner: ctx.use("captioner", captioner).steps(),
    seeds=lambda ctx, captioner: None if ctx.use("captioner", captioner).plugin.seeded else (),
    work=lambda ctx, captioner: len(ctx.dataset.train),
    demand=lambda ctx, captioner: _demand(ctx, captioner),
)
def captions(ctx: Context, out: Step, captioner: str) -> None:
    """Write the captions of the training split; they do not depend on IPC, and on the seed if the captioner says so.

    Raises:
        UsageError: no such captioner.
        PluginError: it did not return one text per image.
    """
    plugin, mine, entry = ctx.use("captioner", captioner)
    data, split = ctx.dataset, ctx.dataset.train
    with plugin_errors(entry):
        texts = plugin.caption(mine, split, data.class_names, data.image_size)
        write_metadata(out.dir / FILE, split.ids, _checked(texts, captioner, split.ids, ctx.warn))
    for piece in out.dir.glob(NAMES):
        piece.unlink()


def caption_training_images(ctx: Context, captioner: str) -> Captions:
    """Return the captions of the training split."""
    return Captions(captions(ctx, captioner), captioner)


def _checked(texts: Iterable[str], name: str, ids: Sequence[str], warn: Callable[[str], None]) -> Iterator[str]:
    """Pass captions on, as long as they are texts and neither too few nor too many; tell of empty ones."""
    count = empty = 0
    first = ""
    for text in texts:
        count += 1
        if not isinstance(text, str):
            raise PluginError(f"Captioner {name} returned {text!r} as the caption of image {count}.")
        if not is_text(text):
            raise PluginError(
                f"Captioner {name} returned half a character (a lone surrogate) in the caption of image {count}:"
                f" {ascii(text)[:80]}."
            )
        if count <= len(ids):
            if not text.strip():
                empty, first = empty + 1, first or ids[count - 1]
            yield text
    if count != len(ids):
        raise PluginError(f"Captioner {name} returned {count} captions for {len(ids)} images.")
    if empty:
        warn(f"captioner {name} has nothing to say of {empty} of {count} images, the first of which is {first!r}.")
