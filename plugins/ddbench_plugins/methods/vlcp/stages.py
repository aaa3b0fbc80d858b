"""VLCP's cached steps after captioning: fine-tuned model, latents, prototypes, synthesised images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import DataError, UsageError, derive_seed, write_atomic
from ddbench_plugins.methods.vlcp.backbone import Backbone
from ddbench_plugins.methods.vlcp.prototypes import cluster, inliers
from ddbench_plugins.methods.vlcp.text import TextRules, stop_words, text_prototypes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ddbench import Context, Done, ImageSource, Step
    from ddbench_plugins.diffusion.finetune import FinetuneSettings
    from ddbench_plugins.methods.vlcp.captions import Captions
    from ddbench_plugins.methods.vlcp.options import VLCPOptions

#: Prototypes that are turned into images under one seed; the unit of resuming, whatever the batch size.
CHUNK = 64


class Resized:
    """A split's images at one size, read one at a time, as fine-tuning without cached latents takes them."""

    def __init__(self, images: ImageSource, size: int) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.images.load(index, self.size)


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
    done = ctx.step("finetuned", inputs, lambda step: _finetune(ctx, step, base, captions, settings, inputs["seed"]))
    about = {**base.about, "finetuned": {"steps": done.info["steps"], "loss": done.info["loss"]}}
    return Backbone(ctx, str(done.dir / "model"), None, about)


def _or(chosen: bool | None, automatic: bool) -> bool:
    return automatic if chosen is None else chosen


def _latent_bytes(ctx: Context, resolution: int) -> int:
    """Bytes of all training images' posteriors: mean and deviation, plain and mirrored."""
    return 2 * 2 * 4 * 4 * (resolution // 8) ** 2 * len(ctx.dataset.train)


def batch_size(options: VLCPOptions, resolution: int) -> int:
    """Return how many images are encoded or generated at a time; no image depends on it."""
    return options.batch_size or (64 if resolution <= 64 else 8)


def _finetune(
    ctx: Context, step: Step, base: Backbone, captions: Captions, settings: FinetuneSettings, seed: int
) -> None:
    from ddbench_plugins.diffusion.finetune import finetune
    from ddbench_plugins.training.memory import keep_freed_memory

    keep_freed_memory()
    split = ctx.dataset.train
    images: Any = Resized(split.images, settings.resolution)
    if settings.cache_latents:
        images = split.images.batch(range(len(split)), settings.resolution)
    total = settings.steps(len(split))
    with ctx.progress("fine-tuning", total) as advance:
        report = finetune(
            base.load(),
            images,
            captions.texts,
            step.dir / "model",
            settings,
            seed=seed,
            device=ctx.machine.device,
            precision=ctx.machine.precision,
            progress=advance,
            checkpoint=step,
            checkpoint_every=max(100, total // 20),
        )
    step.info.update(report)


def class_latents(ctx: Context, base: Backbone, resolution: int) -> Done:
    """Return the step with the latents of every class, ``<label>.npy`` [n, 4, h, w]; independent of IPC and captions.

    The autoencoder is not fine-tuned, so the base model's latents serve every fine-tuned one.
    """
    options: VLCPOptions = ctx.options
    data = ctx.dataset
    inputs = {
        "version": 1,
        "model": base.digest(),
        "dataset": data.fingerprint,
        "resolution": resolution,
        "latent": options.latent,
        "seed": ctx.seed("vlcp latents") if options.latent == "sample" else 0,
        "dtype": base.compute_dtype,
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        from ddbench_plugins.diffusion.encode import encode_images

        pipeline = base.load(base.compute_dtype)
        count = 0
        with ctx.progress("encoding", len(data.train)) as advance:
            for label in range(data.num_classes):
                rows = data.train.of_class(label)
                path = step.dir / f"{label:05d}.npy"
                if not path.exists():
                    latents = encode_images(
                        pipeline,
                        _Batches(data.train.images, rows, resolution),
                        resolution=resolution,
                        seed=derive_seed(inputs["seed"], "class", label),
                        sample=options.latent == "sample",
                        batch_size=batch_size(options, resolution),
                        progress=lambda done, total, info="", before=count: advance(before + done, len(data.train)),
                    )
                    save_array(path, latents if base.compute_dtype == "fp32" else latents.astype(np.float16))
                count += len(rows)
                advance(count)

    return ctx.step("latents", inputs, build)


class _Batches:
    """Images at chosen positions, read by slices, so that a class need not fit into memory."""

    def __init__(self, images: ImageSource, rows: NDArray[np.int64], size: int) -> None:
        self.images, self.rows, self.size = images, rows, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, where: slice) -> NDArray[np.uint8]:
        return self.images.batch(self.rows[where].tolist(), self.size)


@dataclass(frozen=True)
class Prototypes:
    """Image and text prototypes, class-major.

    Attributes:
        centres: float32 [C·ipc, 4, h, w], scaled latents.
        prompts: one text per centre.
        labels: int64 [C·ipc].
        inliers: per class, how many latents were clustered.
        done: the finished step; its folder also says which image is in which cluster.
    """

    centres: NDArray[np.float32]
    prompts: tuple[str, ...]
    labels: NDArray[np.int64]
    inliers: tuple[int, ...]
    done: Done


def find_prototypes(ctx: Context, latents: Done, captions: Captions | None, ipc: int) -> Prototypes:
    """Cluster every class's inlier latents and choose each cluster's text; without captions, the class's name."""
    options: VLCPOptions = ctx.options
    data = ctx.dataset
    inputs: dict[str, Any] = {
        "version": 1,
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
    done = ctx.step("prototypes", inputs, lambda step: _prototypes(ctx, step, latents, captions, rules, ipc))
    about = json.loads((done.dir / "prototypes.json").read_text("utf-8"))
    return Prototypes(
        centres=np.load(done.dir / "centres.npy", allow_pickle=False),
        prompts=tuple(text for entry in about for text in entry["prompts"]),
        labels=np.repeat(np.arange(data.num_classes), ipc),
        inliers=tuple(len(entry["inliers"]) for entry in about),
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
    centres, about = [], []
    with ctx.progress("prototypes", data.num_classes) as advance:
        for label, name in enumerate(data.class_names):
            mine = np.load(latents.dir / f"{label:05d}.npy", allow_pickle=False).astype(np.float32)
            kept = inliers(mine, options.contamination, options.neighbours)
            found = cluster(mine[kept], ipc, derive_seed(ctx.seed("vlcp clusters"), label), name)
            rows = data.train.of_class(label)[kept]
            prompts = [name] * ipc
            if captions is not None and rules is not None:
                texts = [captions.texts[row] for row in rows]
                prompts = text_prototypes(texts, found.members.tolist(), found.distances.tolist(), name, ipc, rules)
            centres.append(found.centres)
            about.append({"prompts": prompts, "inliers": rows.tolist(), "clusters": found.members.tolist()})
            advance(label + 1)
    save_array(step.dir / "centres.npy", np.concatenate(centres))
    write_atomic(step.dir / "prototypes.json", json.dumps(about, ensure_ascii=False))


def synthesise(ctx: Context, model: Backbone, name: str, found: Prototypes, prompts: Sequence[str], size: int) -> Done:
    """Return the step with images uint8 [n, size, size, 3] in files of :data:`CHUNK`, one per prototype.

    Two calls with the same prototypes and other prompts use the same noise.
    """
    options: VLCPOptions = ctx.options
    inputs = {
        "version": 1,
        "model": model.digest(),
        "prototypes": found.done.key,
        "prompts": list(prompts),
        "strength": options.strength,
        "guidance_scale": options.guidance_scale,
        "steps": options.steps,
        "negative_prompt": options.negative_prompt,
        "pad_prompts": options.pad_prompts,
        "size": size,
        "seed": ctx.seed("vlcp synthesis"),
        "dtype": model.compute_dtype,
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        from ddbench_plugins.diffusion.synthesize import synthesize
        from ddbench_plugins.training.memory import keep_freed_memory

        keep_freed_memory()
        pipeline = model.load(model.compute_dtype)
        with ctx.progress(name, len(prompts)) as advance:
            for start in range(0, len(prompts), CHUNK):
                path = step.dir / f"{start:07d}.npy"
                if path.exists():
                    continue
                rows = slice(start, min(start + CHUNK, len(prompts)))
                images = synthesize(
                    pipeline,
                    found.centres[rows],
                    prompts[rows],
                    strength=options.strength,
                    guidance=options.guidance_scale,
                    steps=options.steps,
                    negative_prompt=options.negative_prompt,
                    seed=derive_seed(inputs["seed"], "chunk", start),
                    batch_size=batch_size(options, model.resolution()),
                    pad_prompts=options.pad_prompts,
                    progress=lambda done, total, info="", before=start: advance(before + done, len(prompts)),
                )
                save_array(path, resized(images, size))

    return ctx.step(name, inputs, build)


def read_images(done: Done) -> NDArray[np.uint8]:
    """Return the images of :func:`synthesise`, uint8 [n, size, size, 3]."""
    return np.concatenate([np.load(path, allow_pickle=False) for path in sorted(done.dir.glob("*.npy"))])


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize uint8 [n, H, W, 3] to ``size`` by PIL's default filter (bicubic), as the released code does."""
    if images.shape[1:3] == (size, size):
        return images
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in images])


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file so that it is there whole or not at all."""
    import io

    if array.dtype.hasobject:
        raise DataError(f"{path.name} would hold Python objects.")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())
