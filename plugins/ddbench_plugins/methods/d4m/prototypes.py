"""D4M's prototypes: mini-batch k-means over each class's latents (D4M distillation/gen_prototype.py)."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np

from ddbench import Context, UsageError, step, write_atomic
from ddbench_plugins.diffusion.arrays import save_array, write_rows
from ddbench_plugins.diffusion.backbone import model_facts
from ddbench_plugins.diffusion.class_latents import class_latents, latents_of
from ddbench_plugins.diffusion.clustering import each_class
from ddbench_plugins.methods.selection import ipc_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddbench import Step
    from ddbench_plugins.methods.d4m.options import D4MOptions


@step(
    options=["km_expand", "leftover", "repeats", "template"],
    facts=["ipc"],
    seeds=["d4m order"],
    needs=[model_facts, class_latents],
    work=lambda ctx: len(ctx.dataset.train) * (ctx.ipc or 1),
)
def prototypes(ctx: Context, out: Step) -> None:
    """Cluster the latents of every class; a prototype stands ``options.repeats`` times, one after the other."""
    options: D4MOptions = ctx.options
    data, ipc, latents = ctx.dataset, ipc_of(ctx), class_latents(ctx)
    clusters, arrivals, plan = ipc // options.repeats, arrival_order(ctx), chunks_of_classes(ctx, ipc)
    parts = out.dir / "classes"
    parts.mkdir(exist_ok=True)
    paths = [parts / f"{label:05d}.npy" for label in range(data.num_classes)]

    def work(label: int) -> None:
        if not paths[label].exists():
            mine = latents_of(latents, label)[arrivals[label]].astype(np.float32)
            centres = cluster(mine, clusters, options.km_expand, plan[label])
            save_array(paths[label], centres.repeat(options.repeats, axis=0))

    with ctx.progress("prototypes", data.num_classes) as advance:
        each_class(work, data.num_classes, advance=advance)
    centres = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
    write_rows(out.dir / "centres.npy", sum(map(len, centres)), centres)
    prompts = [options.template.replace("{name}", name) for name in data.class_names]
    about = [{"prompts": [prompt] * ipc, "count": fitted(own)} for prompt, own in zip(prompts, plan, strict=True)]
    write_atomic(out.dir / "prototypes.json", json.dumps(about, ensure_ascii=False))
    shutil.rmtree(parts)


def arrival_order(ctx: Context) -> list[NDArray[np.int64]]:
    """Return, for each class, the positions of its images among themselves in the order of one shuffled pass."""
    order, labels = _pass(ctx), ctx.dataset.train.labels
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return [np.argsort(rank[labels == label]) for label in range(ctx.dataset.num_classes)]


def _pass(ctx: Context) -> NDArray[np.int64]:
    return ctx.rng("d4m order").permutation(len(ctx.dataset.train))


def chunks_of_classes(ctx: Context, ipc: int) -> list[list[slice]]:
    """Return the chunks of every class.

    Raises:
        UsageError: IPC is no multiple of ``repeats``, a class has fewer images than prototypes, or the released code
            would not fit it at all.
    """
    options: D4MOptions = ctx.options
    data = ctx.dataset
    if ipc % options.repeats:
        raise UsageError(
            f"D4M draws {options.repeats} images from each prototype, and IPC {ipc} is no multiple of that.",
            hint="Change method.repeats or --ipc.",
        )
    clusters = ipc // options.repeats
    size = options.km_expand * clusters
    last = int(data.train.labels[_pass(ctx)[-1]])
    plans = []
    for label, count in enumerate(data.train.counts(data.num_classes)):
        if count < clusters:
            raise UsageError(
                f"Class {data.class_names[label]!r} has {count} images, fewer than its {clusters} prototypes.",
                hint="Choose a smaller --ipc, or a larger method.repeats.",
            )
        rest = options.leftover == "fit" or (label == last and count % size >= clusters)
        plans.append(chunks(count, size, rest))
        if not plans[-1]:
            raise UsageError(
                f"Class {data.class_names[label]!r} has {count} images, fewer than the {size} of one step of k-means,"
                " so that the released code never fits it.",
                hint="Use method.leftover=fit, or a smaller method.km_expand.",
            )
    return plans


def chunks(count: int, size: int, rest: bool) -> list[slice]:
    """Cut ``count`` latents into chunks of ``size``; ``rest`` keeps a smaller one at the end."""
    starts = range(0, count, size)
    return [slice(start, min(start + size, count)) for start in starts if rest or start + size <= count]


def fitted(plan: list[slice]) -> int:
    """Return how many latents are in a class's chunks."""
    return int(plan[-1].stop)


def cluster(latents: NDArray[np.float32], clusters: int, expand: int, plan: list[slice]) -> NDArray[np.float32]:
    """Return the centres [clusters, ...] of latents [n, ...] in their order of arrival.

    The first chunk initialises the centres; each chunk then moves them towards the running mean of all latents ever
    assigned to them. The random state is 0 as in the released code; what varies with the seed is the order.
    """
    from sklearn.cluster import MiniBatchKMeans

    flat = latents.reshape(len(latents), -1)
    means = MiniBatchKMeans(clusters, random_state=0, batch_size=expand * clusters, n_init="auto")
    for chunk in plan:
        means.partial_fit(flat[chunk])
    centres: NDArray[np.float32] = means.cluster_centers_.astype(np.float32)
    return centres.reshape(clusters, *latents.shape[1:])
