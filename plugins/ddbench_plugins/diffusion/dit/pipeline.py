"""Loading and saving a diffusion transformer with its autoencoder: a ``DiTPipeline``, published or small."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench_plugins.diffusion.pipeline import (
    BackboneUnavailableError,
    forget_origin,
    missing_files,
    open_pipeline,
    quiet,
    refuse_incomplete,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
#: DiT-XL/2 was published as .bin files; diffusers reads them as weights only.
ENDINGS = ("safetensors", "bin")
#: Beside a pipeline: the class ids of its labels, in their order. Without it, labels are ImageNet-1K's.
CLASSES = "class_ids.json"


def load_dit(
    source: str | Path, revision: str | None = None, device: str = "cpu", dtype: str = "fp32", offline: bool = False
) -> Any:
    """A ``DiTPipeline`` from a hub id ("owner/name") or a local folder, on ``device``.

    Its blocks share one embedding of timestep and class, as in the published model; diffusers keeps a copy per block.
    Raises BackboneUnavailableError.
    """
    from diffusers import DiTPipeline

    pipeline = open_pipeline(
        DiTPipeline, source, revision, dtype, offline, check=check_folder, layout="scheduler/, transformer/, vae/"
    )
    channels = pipeline.transformer.config
    if channels.out_channels != 2 * channels.in_channels:
        raise BackboneUnavailableError(
            f"{source} has {channels.out_channels} outputs for {channels.in_channels} latent channels: not a diffusion"
            " transformer with learned variances, such as facebook/DiT-XL-2-256"
        )
    share_embeddings(pipeline.transformer)
    return pipeline.to(device)


def load_autoencoder(source: str, device: str = "cpu", dtype: str = "fp32", offline: bool = False) -> Any:
    """An ``AutoencoderKL`` from a hub id or a local folder, on ``device``. Raises BackboneUnavailableError."""
    from diffusers import AutoencoderKL

    def check(folder: Path) -> None:
        if not (folder / "config.json").is_file():
            refuse_incomplete(folder, ["config.json"])

    autoencoder = open_pipeline(AutoencoderKL, source, None, dtype, offline, check=check, layout="config.json")
    return autoencoder.to(device)


def save_dit(pipeline: Any, folder: Path, class_ids: Sequence[str] | None) -> None:
    """Save a pipeline to ``folder`` in the hub's layout; ``class_ids`` are those of its labels, None for ImageNet."""
    from diffusers import DiTPipeline

    transformer = copy.deepcopy(pipeline.transformer)
    for block in transformer.transformer_blocks[1:]:
        block.norm1.emb = copy.deepcopy(block.norm1.emb)  # files hold no shared weights
    with quiet():
        DiTPipeline(transformer, pipeline.vae, pipeline.scheduler).save_pretrained(folder)
    for part in PARTS:
        forget_origin(folder / part / "config.json")
    if class_ids is not None:
        (folder / CLASSES).write_text(json.dumps(list(class_ids)) + "\n", encoding="utf-8")


def class_ids(source: str | Path, pipeline: Any) -> list[str]:
    """The class ids of a loaded pipeline's labels: those written beside it, else ImageNet-1K's synset ids.

    Raises BackboneUnavailableError where neither fits its number of labels.
    """
    path = Path(source).expanduser() / CLASSES
    ids: list[str]
    if path.is_file():
        ids = json.loads(path.read_text("utf-8"))
        if not (isinstance(ids, list) and all(isinstance(name, str) for name in ids)):
            raise BackboneUnavailableError(f"{path} is no list of class ids, which are text")
    else:
        from ddbench_plugins.teachers.pretrained import imagenet

        ids = imagenet()
    if len(ids) != null_label(pipeline.transformer):
        raise BackboneUnavailableError(
            f"{source} has {null_label(pipeline.transformer)} labels, but {len(ids)} class ids are known for it; write"
            f" them, in its order, as a list into {CLASSES} beside model_index.json"
        )
    return ids


def share_embeddings(transformer: Any) -> None:
    """Let all blocks use the first one's embedding of timestep and class, if theirs are equal."""
    import torch

    first = transformer.transformer_blocks[0].norm1.emb
    weights = first.state_dict()
    for block in transformer.transformer_blocks[1:]:
        if all(torch.equal(value, weights[name]) for name, value in block.norm1.emb.state_dict().items()):
            block.norm1.emb = first


def check_folder(folder: Path) -> None:
    """Raise BackboneUnavailableError naming the missing files if ``folder`` is not a complete pipeline folder."""
    refuse_incomplete(folder, missing_files(folder, PARTS, ENDINGS))


def null_label(transformer: Any) -> int:
    """The label that stands for "no class": the one after the last."""
    return int(transformer.config.num_embeds_ada_norm)
