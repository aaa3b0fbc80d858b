"""`ddbench tsne`: one class's images and the prototypes a method found among them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ddbench.cli import common, completion, embeddings
from ddbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from ddbench.plugin.datasets import Dataset
    from ddbench.plugin.embedding import Embedding
    from ddbench.sets.made import Distilled


@click.command("tsne")
@click.argument("what", metavar="METHOD | RECORD", shell_complete=completion.names("method", files=True))
@click.option("--class", "class_name", default="", metavar="NAME", help="The class (default: the first).")
@click.option("--out", default="tsne.png", show_default=True, metavar="FILE", help="The picture: .png, .svg or .pdf.")
@common.one_dataset("Data set (default: the embedded one).")
@click.option("--ipc", type=click.IntRange(1), default=10, show_default=True, help="Images per class.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Distillation seed.")
@common.preset_option
@common.set_option
@common.plugin_option
@common.machine_options
def command(what: str, class_name: str, out: str, **values: Any) -> None:
    """Draw one class's latents or features with the prototypes found in them, before and after outlier removal.

    Finished steps are reused, and only the steps that the picture needs are run. For a method without an embedding, the
    class's training images and its distilled images are drawn in pixel space.

    \b
    Examples:
      ddbench tsne vlcp --class three --ipc 10
      ddbench tsne registry/results/digits/vlcp/ipc10-seed0-….json --class three --out tsne.pdf
    """
    from ddbench.figures import base as figures
    from ddbench.figures import tsne

    prepared = embeddings.prepare(what, values)
    label = _label(prepared.data, class_name)
    content = prepared.embedding(label)
    if content is None:
        content = _pixels(prepared.data, prepared.distilled(), label)
    figures.save(tsne.draw(content, f"{prepared.title}: {prepared.data.class_names[label]}", prepared.seed), Path(out))
    click.echo(out)


def _label(data: Dataset, class_name: str) -> int:
    if not class_name:
        return 0
    for names in (data.class_names, data.class_ids):
        if class_name in names:
            return names.index(class_name)
    raise unknown("class", class_name, data.class_names)


def _pixels(data: Dataset, made: Distilled, label: int) -> Embedding:
    from ddbench.plugin.embedding import Embedding

    content = made.content
    if content.space != "rgb_uint8" or content.whole:
        raise UsageError(
            f"{made.plugin.name} has no embedding, and its images (space {content.space}) cannot be drawn as pixels.",
            hint="Choose a method with an embedding, such as vlcp.",
        )
    rows = data.train.of_class(label)
    points = data.train.images.batch(rows.tolist(), content.images.shape[1]).astype(np.float32) / 255
    own = content.images[content.labels == label].astype(np.float32) / 255
    distances = [((points - one) ** 2).reshape(len(points), -1).sum(1) for one in own]
    nearest = np.argmin(np.stack(distances), 0).astype(np.int64)
    return Embedding("pixels", points, np.ones(len(points), bool), nearest, own)
