"""VLCP's cached steps between captions and images: fine-tuned model, prototypes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import UsageError, derive_seed, step, write_atomic
from ddbench_plugins.diffusion.arrays import save_array, write_rows
from ddbench_plugins.diffusion.backbone import BACKBONE, base_model, model_facts, side_of
from ddbench_plugins.diffusion.captions import caption_training_images, captions
from ddbench_plugins.diffusion.class_latents import class_latents, latents_of
from ddbench_plugins.diffusion.clustering import compact, each_class
from ddbench_plugins.diffusion.counting import training
from ddbench_plugins.diffusion.reading import Reading
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.methods.vlcp.options import VLCPOptions
from ddbench_plugins.methods.vlcp.prototypes import cluster, inliers
from ddbench_plugins.methods.vlcp.text import TextRules, stop_words, text_prototypes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench import Context, Demand, Step, StepCall
    from ddbench_plugins.diffusion.backbone import Backbone
    from ddbench_plugins.diffusion.finetune import FinetuneSettings
    from ddbench_plugins.diffusion.replicas import Team
    from ddbench_plugins.training.engine import Loop

#: Options of fine-tuning, and of the text of prototypes.
FINETUNING = (
    *(name for name in VLCPOptions.model_fields if name.startswith("finetune_")),
    *("gradient_checkpointing", "cache_latents"),
)
TEXTS = ("captioner", "beta", "top_k", "matching", "stop_words")


def captions_of(ctx: Context) -> list[StepCall]:
    """Return the step of the captions."""
    return [captions.of(ctx, ctx.options.captioner)]


def training_texts(ctx: Context) -> Sequence[str]:
    """Return the captions of the training images; as a control, those of others of the same class (a permutation)."""
    texts = caption_training_images(ctx, ctx.options.captioner).texts
    if ctx.options.text != "shuffled":
        return texts
    split, dealt = ctx.dataset.train, list(texts)
    for label in range(ctx.dataset.num_classes):
        rows = split.of_class(label)
        others = np.random.default_rng(ctx.seed("vlcp shuffle", label)).permutation(rows)
        for row, other in zip(rows, others, strict=True):
            dealt[row] = texts[other]
    return dealt


def _finetuning(ctx: Context) -> Demand | None:
    """Count the fine-tuning."""
    options: VLCPOptions = ctx.options
    side = options.finetune_resolution or side_of(ctx)
    return training(
        ctx,
        side,
        images=len(ctx.dataset.train) * options.finetune_epochs,
        batch=options.finetune_batch_size,
        checkpointing=options.gradient_checkpointing,
        cached=_or(options.cache_latents, _latent_bytes(ctx, side) < 2 << 30),
        views=1 + (options.finetune_flip and ctx.dataset.flip),
    )


@step(
    options=lambda ctx: (
        *(*BACKBONE, "resolution", "captioner", *FINETUNING),
        *(["text"] if ctx.options.text == "shuffled" else []),
    ),
    ignore=["text"],  # where captions are not dealt out
    seeds=["vlcp finetune", "vlcp shuffle"],
    needs=lambda ctx: [model_facts.of(ctx), *captions_of(ctx)],
    work=lambda ctx: len(ctx.dataset.train) * ctx.options.finetune_epochs,
    demand=_finetuning,
)
def finetuned(ctx: Context, out: Step) -> None:
    """Fine-tune the model on the captions; it depends on the seed, not on IPC."""
    from ddbench_plugins.diffusion.finetune import FinetuneSettings

    options: VLCPOptions = ctx.options
    base = base_model(ctx)
    resolution = options.finetune_resolution or options.resolution or base.resolution()
    settings = FinetuneSettings(
        resolution=resolution,
        epochs=options.finetune_epochs,
        batch_size=options.finetune_batch_size,
        accumulate=options.finetune_accumulate,
        learning_rate=options.finetune_learning_rate,
        weight_decay=options.finetune_weight_decay,
        clip_norm=options.finetune_clip_norm,
        ema_decay=options.finetune_ema_decay,
        flip=options.finetune_flip and ctx.dataset.flip,
        gradient_checkpointing=_or(options.gradient_checkpointing, base.parameters() > 100_000_000),
        cache_latents=_or(options.cache_latents, _latent_bytes(ctx, resolution) < 2 << 30),
    )
    texts = training_texts(ctx)
    out.info.update(_finetune(ctx, out, base, texts, settings, ctx.seed("vlcp finetune")))


def finetuned_model(ctx: Context) -> Backbone:
    """Return the fine-tuned model."""
    base, done = base_model(ctx), finetuned(ctx)
    about = {**base.about, "finetuned": {"steps": done.info["steps"], "loss": done.info["loss"]}}
    return replace(base, source=str(done.dir / "model"), revision=None, about=about)


def _or(chosen: bool | None, automatic: bool) -> bool:
    return automatic if chosen is None else chosen


def _latent_bytes(ctx: Context, resolution: int) -> int:
    """Bytes of all training images' posteriors: mean and deviation, plain and mirrored."""
    return 2 * 2 * 4 * 4 * (resolution // 8) ** 2 * len(ctx.dataset.train)


def _finetune(
    ctx: Context, out: Step, base: Backbone, captions: Sequence[str], settings: FinetuneSettings, seed: int
) -> dict[str, Any]:
    from ddbench_plugins.diffusion.finetune import finetune
    from ddbench_plugins.diffusion.replicas import divided, processes
    from ddbench_plugins.training.engine import Loop

    split, device = ctx.dataset.train, ctx.machine.device
    count = min(processes(device), settings.batch_size)
    if count > 1:
        out.costs["processes"] = count
    what = (Reading(split.images, settings.resolution), captions, out.dir / "model", settings)
    loop = Loop.of(ctx, checkpoint=out)
    with (
        ctx.progress("fine-tuning", settings.steps(len(split))) as advance,
        divided(count, device, _help, base.source, base.revision, what, seed, loop) as team,
    ):
        return finetune(base.load(), *what, seed=seed, loop=replace(loop, progress=advance), team=team)


def _help(source: str, revision: str | None, what: Any, seed: int, loop: Loop, team: Team) -> None:
    """Fine-tune a share of every batch, in a process of its own."""
    from ddbench import Machine
    from ddbench_plugins.diffusion.finetune import finetune
    from ddbench_plugins.diffusion.pipeline import load_pipeline

    device = f"cuda:{team.rank}" if loop.device.startswith("cuda") else loop.device
    Machine.choose(device, loop.precision)  # how products are computed
    pipeline = load_pipeline(source, revision, device, offline=True)
    finetune(pipeline, *what, seed=seed, loop=replace(loop, device=device), team=team)


@step(
    options=lambda ctx: ("contamination", "neighbours", "text", *(TEXTS if ctx.options.text != "label" else ())),
    facts=["ipc"],
    seeds=["vlcp clusters", "vlcp shuffle"],
    needs=lambda ctx: [
        model_facts.of(ctx),
        *(captions_of(ctx) if ctx.options.text != "label" else []),
        class_latents.of(ctx),
    ],
    work=lambda ctx: len(ctx.dataset.train) * (ctx.ipc or 1),
)
def prototypes(ctx: Context, out: Step) -> None:
    """Cluster every class's inlier latents and choose each cluster's text; without captions, the class's name.

    Raises:
        UsageError: prompts are to be swapped, and there is one cluster in a class.
    """
    options: VLCPOptions = ctx.options
    data, ipc, latents = ctx.dataset, ipc_of(ctx), class_latents(ctx)
    with_text = options.text != "label"
    if options.text == "swapped" and ipc < 2:
        raise UsageError(
            "Prompts cannot be swapped between the clusters of a class at IPC 1.", hint="Choose a larger IPC."
        )
    texts = training_texts(ctx) if with_text else ()
    rules = text_rules(options) if with_text else None
    parts = out.dir / "classes"
    parts.mkdir(exist_ok=True)

    def of_class(label: int) -> None:
        part = parts / f"{label:05d}.json"
        if part.exists():
            return
        name = data.class_names[label]
        mine = latents_of(latents, label).astype(np.float32)
        points = compact(mine)
        kept = inliers(points, options.contamination, options.neighbours)
        clusters = cluster(mine[kept], ipc, derive_seed(ctx.seed("vlcp clusters"), label), name, points[kept])
        rows = data.train.of_class(label)[kept]
        prompts = [name] * ipc
        if rules is not None:
            own = [texts[row] for row in rows]
            prompts = text_prototypes(own, clusters.members.tolist(), clusters.distances.tolist(), name, ipc, rules)
        if options.text == "swapped":
            prompts = [*prompts[1:], prompts[0]]
        about = {
            "prompts": prompts,
            "count": len(rows),
            "inliers": rows.tolist(),
            "clusters": clusters.members.tolist(),
        }
        save_array(part.with_suffix(".npy"), clusters.centres)
        write_atomic(part, json.dumps(about, ensure_ascii=False))  # the last one: now the class is done

    with ctx.progress("prototypes", data.num_classes) as advance:
        each_class(of_class, data.num_classes, advance=advance)
    classes = [parts / f"{label:05d}.json" for label in range(data.num_classes)]
    centres = [np.load(part.with_suffix(".npy"), mmap_mode="r", allow_pickle=False) for part in classes]
    write_rows(out.dir / "centres.npy", sum(map(len, centres)), centres)
    about = [json.loads(part.read_text("utf-8")) for part in classes]
    write_atomic(out.dir / "prototypes.json", json.dumps(about, ensure_ascii=False))
    shutil.rmtree(parts)


def text_rules(options: VLCPOptions) -> TextRules:
    """Return the rules of the text prototypes that the options describe.

    Raises:
        UsageError: the file with stop words cannot be read.
    """
    try:
        words = stop_words(options.stop_words)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Stop words cannot be read from {options.stop_words!r}: {error}",
            hint="method.stop_words is 'sklearn', 'none' or a text file with one word a line.",
        ) from error
    return TextRules(options.beta, options.top_k, words, options.matching == "substring")
