"""The embedding in which a method chose its prototypes: shared by `ddbench tsne` and `ddbench gallery`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench.cli import common
from ddbench.errors import UsageError
from ddbench.experiment import setup

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddbench.plugin.datasets import Dataset
    from ddbench.plugin.embedding import Embedding
    from ddbench.runtime.context import Bound
    from ddbench.sets.made import Distilled


@dataclass(frozen=True)
class PreparedMethod:
    """A method ready to distil a data set, with access to its embedding.

    Attributes:
        title: method, data set and budget in words.
        seed: of distillation.
        data: the data set.
        method: bound to its context.
        force: whether the distilled set is made again.
    """

    title: str
    seed: int
    data: Dataset
    method: Bound[Any]
    force: bool

    def embedding(self, label: int) -> Embedding | None:
        """Return one class's points and prototypes; None of a method that does not say."""
        from ddbench.plugin.manager import plugin_errors

        method, ctx, entry = self.method
        with plugin_errors(entry):
            points: Embedding | None = method.embedding(ctx, label)
        return points

    def distilled(self) -> Distilled:
        """Return the distilled set, from the store where it is there and not forced."""
        from ddbench.experiment import pipeline

        return pipeline.distil(self.method, force=self.force)

    def members(self, label: int, most: int, side: int) -> list[NDArray[np.uint8]]:
        """Return, for each distilled image of a class, the training images nearest to the centre of its cluster.

        Images of one prototype stand one after the other.

        Raises:
            UsageError: the method has no clusters.
        """
        if (content := self.embedding(label)) is None:
            raise UsageError(
                f"{self.method.entry.name} does not report which training images belong to its prototypes.",
                hint="Leave out --members, or choose a method with clusters, such as vlcp.",
            )
        rows = self.data.train.of_class(label)
        clusters = len(content.centres)
        images = [
            self.data.train.images.batch(rows[nearest(content, cluster, most)].tolist(), side)
            for cluster in range(clusters)
        ]
        count = self.method.ctx.ipc or clusters
        return [images[image * clusters // count] for image in range(count)]


def nearest(content: Embedding, cluster: int, most: int) -> NDArray[np.int64]:
    """Return which points of a cluster lie nearest to its centre, the nearest first."""
    import numpy as np

    mine = np.flatnonzero(content.clusters == cluster)
    offsets = (content.points[mine] - content.centres[cluster]).reshape(len(mine), -1)
    return mine[np.argsort(np.einsum("ij,ij->i", offsets, offsets), kind="stable")[:most]]


def prepare(what: str, values: Mapping[str, Any]) -> PreparedMethod:
    """Prepare a method, or the method of a record.

    Args:
        what: name of a method, or file of a record.
        values: of the command: dataset, ipc, seed, preset and the options that all commands share. A record gives all
            of them but the options of the data, which it does not hold; other options replace its own.

    Raises:
        UsageError: the data set is not the one of the record.
    """
    from ddbench.experiment import pipeline
    from ddbench.experiment.study import merged

    wanted = {"method": what, **{name: values[name] for name in ("dataset", "ipc", "seed", "preset")}}
    shared = common.common_arguments(dict(values))
    options: Mapping[str, Any] = shared.pop("options")
    force = shared.pop("force")
    recorded: Mapping[str, Any] = {}
    if what.endswith(".json"):
        wanted, recorded_options, recorded = _cell(Path(what))
        options = merged(recorded_options, options)
    shared["preset"] = wanted["preset"]
    ctx = setup.context(options=options, **shared)
    data = pipeline.load_dataset(ctx, wanted["dataset"] or setup.default_dataset(ctx.plugins))
    if recorded and recorded["fingerprint"] != data.fingerprint:
        raise UsageError(
            f"The record was made from other images: {data.name} with fingerprint {recorded['fingerprint'][:8]} at"
            f" {recorded['image_size']} pixels, here {data.fingerprint[:8]} at {data.image_size}.",
            hint="Give the same options of the data, such as -o data.size=128, and the same files.",
        )
    ctx = replace(ctx, _dataset=data)
    method = pipeline.prepare_method(ctx, wanted["method"], wanted["ipc"], wanted["seed"])
    budget = "" if method.ctx.ipc is None else f", IPC {method.ctx.ipc}"
    return PreparedMethod(f"{wanted['method']} on {data.name}{budget}", wanted["seed"], data, method, force)


def _cell(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return what a record's distilled set was made from, with every option that was set, and its data set."""
    from ddbench.results.registry import read_good

    cell = read_good(path).cell
    if cell.ipc is None:
        raise UsageError("The whole training set has no prototypes.")
    wanted = {"method": cell.method.name, "dataset": cell.dataset["name"], "ipc": cell.ipc, "seed": cell.seed}
    return {**wanted, "preset": cell.preset}, {"method": cell.method.explicit, **cell.other_options}, cell.dataset
