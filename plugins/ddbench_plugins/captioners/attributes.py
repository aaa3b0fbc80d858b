"""The captioner that needs no model: it says in LLaVA's sentence form what can be measured in an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench import Captioner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ddbench import Context, Split

#: Side at which larger images are measured; the words are about coarse facts.
LARGEST = 64
BATCH = 1024


class Attributes(Captioner):
    """Drawings (one channel): strokes, loops, bays, position of the ink. Pictures (RGB): colours, light, texture, form.

    The same image always gets the same caption. Nothing but the class's name is said that was not measured.
    """

    shard = BATCH

    def caption(self, ctx: Context, split: Split, class_names: Sequence[str], size: int) -> Iterator[str]:
        """Yield one caption per image, measured at ``size`` pixels (64 at most)."""
        done = 0
        with ctx.progress("captions", len(split)) as advance:
            for images in split.images.batches(min(size, LARGEST), BATCH, advance):
                labels = split.labels[done : done + len(images)]
                yield from describe(images, [class_names[label] for label in labels])
                done += len(images)


def describe(images: NDArray[np.uint8], names: Sequence[str]) -> list[str]:
    """Return one caption per image, uint8 [n, S, S, 1 or 3]; ``names`` are the class names [n]."""
    from ddbench_plugins.captioners.colours import measure_colours
    from ddbench_plugins.captioners.phrases import describe_colours, describe_strokes
    from ddbench_plugins.captioners.strokes import measure_strokes

    if images.shape[-1] == 1:
        return describe_strokes(measure_strokes(images[..., 0]), names)
    return describe_colours(measure_colours(images), names)
