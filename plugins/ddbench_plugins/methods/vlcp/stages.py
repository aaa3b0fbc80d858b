"""VLCP's cached steps between captions and images: fine-tuned model, prototypes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import Effort, Stage, UsageError, derive_seed, write_atomic
from ddbench_plugins.diffusion.ahead import clusters_effort, distilled_stage, latents_effort, synthesis_stages
from ddbench_plugins.diffusion.arrays import save_array, write_rows
from ddbench_plugins.diffusion.backbone import Backbone, model_facts
from ddbench_plugins.diffusion.captions import captions_effort
from ddbench_plugins.diffusion.clustering import compact, each_class
from ddbench_plugins.diffusion.latents import latents_of
from ddbench_plugins.diffusion.reading import Reading
from ddbench_plugins.diffusion.small.step import small_stages
from ddbench_plugins.diffusion.synthesis import Prototypes
from ddbench_plugins.methods.vlcp import information
from ddbench_plugins.methods.vlcp.prototypes import cluster, inliers
from ddbench_plugins.methods.vlcp.text import TextRules, stop_words, text_prototypes

if TYPE_CHECKING:
    from ddbench import Context, Done, Step, Team
    from ddbench_plugins.diffusion.captions import Captions
    from ddbench_plugins.diffusion.finetune import FinetuneSettings
    from ddbench_plugins.methods.vlcp.options import VLCPOptions


def finetuned_model(ctx: Context, base: Backbone, captions: Captions, resolution: int) -> Backbone:
    """Return the model fine-tuned on the captions; it depends on the seed, not on IPC."""
    from ddbench_plugins.diffusion.finetune import FinetuneSettings

    options: VLCPOptions = ctx.options
    resolution = options.finetune_resolution or resolution
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
    inputs = {
        "version": 1,
        "base": base.digest(),
        "dataset": ctx.dataset.fingerprint,
        "captions": captions.done.key,
        "settings": asdict(settings),
        "seed": ctx.seed("vlcp finetune"),
        "numerics": ctx.machine.numerics(),
    }
    done = ctx.step(
        "finetuned",
        inputs,
        lambda step: step.info.update(
            ctx.together(_finetune, ctx, step, base, captions, settings, inputs["seed"]),
        ),
        effort=finetune_effort(ctx),
    )
    about = {**base.about, "finetuned": {"steps": done.info["steps"], "loss": done.info["loss"]}}
    return Backbone(ctx, str(done.dir / "model"), None, about)


def finetune_effort(ctx: Context) -> Effort:
    """Fine-tuning: images × epochs."""
    options: VLCPOptions = ctx.options
    facts, side = model_facts(ctx, options)
    alike = {
        "model_facts": facts,
        "side": options.finetune_resolution or options.resolution or side,
        "batch": [options.finetune_batch_size, options.finetune_accumulate],
        "saving": [options.gradient_checkpointing, options.cache_latents],
    }
    return Effort(len(ctx.dataset.train) * options.finetune_epochs, alike)


def prototypes_effort(ctx: Context) -> Effort:
    """Prototypes: images × clusters, with or without outlier removal and texts."""
    options: VLCPOptions = ctx.options
    return clusters_effort(ctx, options, "vlcp", options.contamination > 0, options.neighbours, options.text)


def all_stages(ctx: Context) -> list[Stage]:
    """Return every stage of the method, with what its time grows with."""
    options: VLCPOptions = ctx.options
    captioned = options.text == "prototype" or options.finetune
    return [
        *small_stages(ctx, options),
        *([Stage("captions", captions_effort(ctx, options.captioner))] if captioned else []),
        Stage("latents", latents_effort(ctx, options)),
        Stage("prototypes", prototypes_effort(ctx)),
        *([Stage("finetuned", finetune_effort(ctx))] if options.finetune else []),
        *synthesis_stages(ctx, options),
        *([Stage("caption-information", information.effort(ctx))] if captioned else []),
        distilled_stage(ctx, options),
    ]


def _or(chosen: bool | None, automatic: bool) -> bool:
    return automatic if chosen is None else chosen


def _latent_bytes(ctx: Context, resolution: int) -> int:
    """Bytes of all training images' posteriors: mean and deviation, plain and mirrored."""
    return 2 * 2 * 4 * 4 * (resolution // 8) ** 2 * len(ctx.dataset.train)


def _finetune(
    ctx: Context, step: Step, base: Backbone, captions: Captions, settings: FinetuneSettings, seed: int, team: Team
) -> dict[str, Any]:
    from ddbench_plugins.diffusion.finetune import finetune
    from ddbench_plugins.training.engine import Loop
    from ddbench_plugins.training.memory import keep_freed_memory

    keep_freed_memory()
    split = ctx.dataset.train
    total = settings.steps(len(split))
    with ctx.progress("fine-tuning", total) as advance:
        return finetune(
            base.load(),
            Reading(split.images, settings.resolution),
            captions.texts,
            step.dir / "model",
            settings,
            seed=seed,
            loop=Loop.of(ctx, advance, step),
            team=team,
        )


def clustered(ctx: Context, latents: Done, captions: Captions | None, ipc: int) -> Done:
    """Cluster every class's inlier latents and choose each cluster's text; without captions, the class's name."""
    options: VLCPOptions = ctx.options
    data = ctx.dataset
    inputs: dict[str, Any] = {
        "version": 2,
        "latents": latents.key,
        "ipc": ipc,
        "contamination": options.contamination,
        "neighbours": options.neighbours,
        "class_names": list(data.class_names),
        "seed": ctx.seed("vlcp clusters"),
    }
    rules = None
    if captions is not None:
        rules = text_rules(options)
        inputs |= {
            "captions": captions.done.key,
            "beta": options.beta,
            "top_k": options.top_k,
            "matching": options.matching,
            "stop_words": sorted(rules.stop_words),
        }
    return ctx.step(
        "prototypes",
        inputs,
        lambda step: _prototypes(ctx, step, latents, captions, rules, ipc),
        effort=prototypes_effort(ctx),
    )


def read_prototypes(ctx: Context, done: Done, ipc: int) -> Prototypes:
    """Return what :func:`clustered` found."""
    about = json.loads((done.dir / "prototypes.json").read_text("utf-8"))
    return Prototypes(
        centres=np.load(done.dir / "centres.npy", mmap_mode="r", allow_pickle=False),
        prompts=tuple(text for entry in about for text in entry["prompts"]),
        labels=np.repeat(np.arange(ctx.dataset.num_classes), ipc),
        counts=tuple(len(entry["inliers"]) for entry in about),
        done=done,
    )


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


def _prototypes(
    ctx: Context, step: Step, latents: Done, captions: Captions | None, rules: TextRules | None, ipc: int
) -> None:
    options: VLCPOptions = ctx.options
    data = ctx.dataset
    parts = step.dir / "classes"
    parts.mkdir(exist_ok=True)

    def of_class(label: int) -> None:
        part = parts / f"{label:05d}.json"
        if part.exists():
            return
        name = data.class_names[label]
        mine = latents_of(latents, label).astype(np.float32)
        points = compact(mine)
        kept = inliers(points, options.contamination, options.neighbours)
        found = cluster(mine[kept], ipc, derive_seed(ctx.seed("vlcp clusters"), label), name, points[kept])
        rows = data.train.of_class(label)[kept]
        prompts = [name] * ipc
        if captions is not None and rules is not None:
            texts = [captions.texts[row] for row in rows]
            prompts = text_prototypes(texts, found.members.tolist(), found.distances.tolist(), name, ipc, rules)
        about = {"prompts": prompts, "inliers": rows.tolist(), "clusters": found.members.tolist()}
        save_array(part.with_suffix(".npy"), found.centres)
        write_atomic(part, json.dumps(about, ensure_ascii=False))  # the last one: now the class is done

    with ctx.progress("prototypes", data.num_classes) as advance:
        each_class(of_class, data.num_classes, advance=advance)
    found = [parts / f"{label:05d}.json" for label in range(data.num_classes)]
    centres = [np.load(part.with_suffix(".npy"), mmap_mode="r", allow_pickle=False) for part in found]
    write_rows(step.dir / "centres.npy", sum(map(len, centres)), centres)
    about = [json.loads(part.read_text("utf-8")) for part in found]
    write_atomic(step.dir / "prototypes.json", json.dumps(about, ensure_ascii=False))
    shutil.rmtree(parts)
