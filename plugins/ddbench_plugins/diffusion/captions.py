"""Captions of the training images as a cached step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ddbench import PluginError, plugin_errors, step, write_atomic
from ddbench.files import is_text
from ddbench_plugins.captioners.metadata import FILE, StoredTexts, write_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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


def _shards(ctx: Context, captioner: str) -> list[tuple[int, int]]:
    """Return the images of every shard, from the first to before the last."""
    plugin, count = ctx.use("captioner", captioner).plugin, len(ctx.dataset.train)
    size = plugin.shard or count
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _caption(ctx: Context, out: Step, shard: tuple[int, int], captioner: str) -> None:
    """Caption the images of a shard."""
    plugin, mine, entry = ctx.use("captioner", captioner)
    data, part = ctx.dataset, ctx.dataset.train.part(range(*shard))
    with plugin_errors(entry):
        texts = plugin.caption(mine, part, data.class_names, data.image_size)
        write_metadata(out.dir / FILE, part.ids, _checked(texts, captioner, part.ids, out.info))


@step(
    uses=lambda ctx, captioner: [("captioner", captioner)],
    needs=lambda ctx, captioner: ctx.use("captioner", captioner).steps(),
    seeds=lambda ctx, captioner: None if ctx.use("captioner", captioner).plugin.seeded else (),
    work=lambda ctx, captioner: len(ctx.dataset.train),
    demand=lambda ctx, captioner: _demand(ctx, captioner),
    shards=_shards,
    shard=_caption,
)
def captions(ctx: Context, out: Step, captioner: str) -> None:
    """Write the captions of the training split; they do not depend on IPC, and on the seed if the captioner says so.

    Raises:
        UsageError: no such captioner.
        PluginError: it did not return one text per image.
    """
    write_atomic(out.dir / FILE, ((shard.dir / FILE).read_bytes() for shard in out.shards))
    if empty := [image for shard in out.shards for image in shard.info["empty"]]:
        of = f"{len(empty)} of {len(ctx.dataset.train)} images, the first of which is {empty[0]!r}"
        ctx.warn(f"captioner {captioner} has nothing to say of {of}.")


def caption_training_images(ctx: Context, captioner: str) -> Captions:
    """Return the captions of the training split."""
    return Captions(captions(ctx, captioner), captioner)


def _checked(texts: Iterable[str], name: str, ids: Sequence[str], info: dict[str, Any]) -> Iterator[str]:
    """Pass captions on, as long as they are texts and neither too few nor too many; note whose are empty."""
    empty = info["empty"] = list[str]()
    count = 0
    for text in texts:
        count += 1
        where = f"of image {ids[count - 1]!r}" if count <= len(ids) else f"number {count}"
        if not isinstance(text, str):
            raise PluginError(f"Captioner {name} returned {text!r} as the caption {where}.")
        if not is_text(text):
            raise PluginError(
                f"Captioner {name} returned half a character (a lone surrogate) in the caption {where}:"
                f" {ascii(text)[:80]}."
            )
        if count <= len(ids):
            if not text.strip():
                empty.append(ids[count - 1])
            yield text
    if count != len(ids):
        raise PluginError(f"Captioner {name} returned {count} captions for {len(ids)} images.")
