"""Prototypes and prompts to images, a cached step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import derive_seed
from ddbench_plugins.diffusion.ahead import synthesis_effort
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.class_latents import batch_size
from ddbench_plugins.training.pixels import as_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ddbench import Context, Done, Step
    from ddbench_plugins.diffusion.base_model import Backbone
    from ddbench_plugins.diffusion.options import ImageToImageOptions

#: Prototypes that are turned into images under one seed; the unit of resuming, whatever the batch size.
CHUNK = 64


@dataclass(frozen=True)
class Prototypes:
    """Latents and prompts that images are made from, class-major.

    Attributes:
        centres: float32 [C·ipc, 4, h, w], scaled latents.
        prompts: one text per centre.
        labels: int64 [C·ipc].
        counts: per class, how many latents were clustered.
        done: the finished step; they are its result.
    """

    centres: NDArray[np.float32]
    prompts: tuple[str, ...]
    labels: NDArray[np.int64]
    counts: tuple[int, ...]
    done: Done


def synthesise(
    ctx: Context,
    model: Backbone,
    name: str,
    found: Prototypes,
    prompts: Sequence[str],
    size: int,
    *,
    pad_prompts: bool = True,
    safety_checker: bool = False,
) -> Done:
    """Return the step with images uint8 [n, size, size, 3] in files of :data:`CHUNK`, one per prototype.

    Two calls with the same prototypes and other prompts use the same noise. Their random role is
    the same for all methods, and named after the first of them.
    """
    options: ImageToImageOptions = ctx.options
    inputs: dict[str, Any] = {
        "version": 1,
        "model": model.digest(),
        "prototypes": found.done.key,
        "prompts": list(prompts),
        "strength": options.strength,
        "guidance_scale": options.guidance_scale,
        "steps": options.steps,
        "negative_prompt": options.negative_prompt,
        "pad_prompts": pad_prompts,
        "size": size,
        "seed": ctx.seed("vlcp synthesis"),
        "dtype": model.compute_dtype,
        "numerics": ctx.machine.numerics(),
    }
    if safety_checker:
        inputs["safety_checker"] = True

    def build(step: Step) -> None:
        from ddbench_plugins.diffusion.synthesize import synthesize
        from ddbench_plugins.training.memory import keep_freed_memory

        keep_freed_memory()
        pipeline = model.load(model.compute_dtype, decodes=True, safety_checker=safety_checker)
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
                    pad_prompts=pad_prompts,
                    progress=lambda done, total, info="", before=start: advance(before + done, len(prompts)),
                )
                save_array(path, resized(images, size))

    return ctx.step(name, inputs, build, effort=synthesis_effort(ctx, options, len(prompts), size))


def read_images(done: Done) -> NDArray[np.uint8]:
    """Return the images of :func:`synthesise`, uint8 [n, size, size, 3]."""
    return np.concatenate([np.load(path, allow_pickle=False) for path in sorted(done.dir.glob("*.npy"))])


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize uint8 [n, H, W, 3] to ``size`` by PIL's default filter (bicubic), as the released code does."""
    if images.shape[1:3] == (size, size):
        return images
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in images])


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average the channels of uint8 [n, H, W, 3]: the model saw grey images with three equal channels."""
    return as_bytes(np.round(images.astype(np.float32).mean(-1, keepdims=True)))
