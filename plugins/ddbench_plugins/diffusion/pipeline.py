"""Loading a diffusion pipeline, from the hub or from a folder: one path for published and for small models."""

from __future__ import annotations

import hashlib
import json
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench.files import damaged_files, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


class BackboneUnavailableError(RuntimeError):
    """A diffusion model that can neither be found locally nor be fetched; the message says what to put where."""


def load_pipeline(
    source: str | Path,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "fp32",
    offline: bool = False,
    *,
    sparing: bool = False,
    safety_checker: bool = False,
) -> Any:
    """A ``StableDiffusionImg2ImgPipeline`` from a hub id ("owner/name") or a local folder, on ``device``.

    ``dtype`` is 'fp32', 'bf16' or 'fp16'. ``offline`` uses only what is on this machine. The safety checker,
    which replaces flagged images by black ones, is left out unless asked for. ``sparing`` decodes
    images one by one, and those larger than the autoencoder's own size by tiles. Raises BackboneUnavailableError.
    """
    from ddbench_plugins.diffusion.image_to_image import ImageToImagePipeline

    unchecked = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = open_pipeline(
        ImageToImagePipeline,
        source,
        revision,
        dtype,
        offline,
        check=check_folder,
        layout="scheduler/, text_encoder/, tokenizer/, unet/, vae/",
        **({} if safety_checker else unchecked),
    )
    if safety_checker and pipeline.safety_checker is None:
        raise BackboneUnavailableError(f"the diffusion model {str(source)!r} comes without a safety checker")
    # What has these channels it takes for latents.
    pipeline.image_processor.register_to_config(vae_latent_channels=pipeline.vae.config.latent_channels)
    if sparing:
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
    return pipeline.to(device)


def open_pipeline(
    kind: Any,
    source: str | Path,
    revision: str | None,
    dtype: str,
    offline: bool,
    *,
    check: Callable[[Path], None],
    layout: str,
    **options: Any,
) -> Any:
    """A pipeline or model of the diffusers class ``kind`` from a hub id ("owner/name") or a local folder, on the CPU.

    ``check`` raises if a folder is incomplete, ``layout`` says in an error what there must be; ``options`` go to
    ``from_pretrained``. Raises BackboneUnavailableError.
    """
    import torch

    from ddbench_plugins.training.memory import keep_freed_memory

    keep_freed_memory()
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if dtype not in dtypes:
        raise ValueError(f"dtype must be one of {sorted(dtypes)}, not {dtype!r}")
    folder = Path(source).expanduser()
    if folder.is_dir():
        check(folder)
        if broken := damaged_files(folder):
            raise BackboneUnavailableError(_damaged(str(source), "; ".join(broken[:5])))
        where, options = str(folder), {"local_files_only": True, **options}
    elif _looks_like_path(str(source)):
        raise BackboneUnavailableError(_advice(f"there is no folder {folder}", str(source), layout))
    else:
        where, options = str(source), {"local_files_only": offline, "revision": revision, **options}
    try:
        with quiet(), warnings.catch_warnings():
            # newer releases call this argument dtype, releases before that know torch_dtype only
            warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
            model = kind.from_pretrained(where, torch_dtype=dtypes[dtype], **options)
    except Exception as error:  # the libraries raise many kinds over what they cannot read
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise
        if folder.is_dir():
            raise BackboneUnavailableError(_damaged(str(source), first_line(error))) from error
        missing = offline and not _in_cache(str(source), revision)
        reason = "it is not in the local cache and offline mode is on" if missing else first_line(error)
        raise BackboneUnavailableError(_advice(reason, str(source), layout, revision)) from error
    if hasattr(model, "set_progress_bar_config"):
        model.set_progress_bar_config(disable=True)
    return model


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Save a pipeline's components to ``folder`` as an ordinary ``StableDiffusionPipeline`` of the hub's layout."""
    from diffusers import StableDiffusionPipeline

    with quiet():
        StableDiffusionPipeline(**pipeline.components, requires_safety_checker=False).save_pretrained(folder)
    # Recent releases of transformers write tokenizer.json only; earlier ones look for CLIP's own two files.
    pipeline.tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))
    for part in PARTS:
        forget_origin(folder / part / "config.json")


def forget_origin(config: Path) -> None:
    """Drop the note of the folder a component was loaded from: equal models shall have equal files."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the loading and saving bars of diffusers and transformers inside the block, and diffusers' remarks.

    Such as that an autoencoder is of another class than Stable Diffusion's, or that weights are .bin files; what fails
    raises.
    """
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    silenced = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)
    for library in silenced:
        library.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        for library in silenced:
            library.enable_progress_bar()


def check_folder(folder: Path) -> None:
    """Raise BackboneUnavailableError naming the missing files if ``folder`` is not a complete pipeline folder."""
    missing = missing_files(folder, PARTS)
    tokenizer = folder / "tokenizer"
    if not (tokenizer / "tokenizer.json").is_file():
        missing += [f"tokenizer/{name}" for name in ("vocab.json", "merges.txt") if not (tokenizer / name).is_file()]
    refuse_incomplete(folder, missing)


def missing_files(folder: Path, parts: Mapping[str, str], endings: tuple[str, ...] = ("safetensors",)) -> list[str]:
    """The files that a pipeline folder lacks: its index, its scheduler, and config and weights of ``parts``."""
    needed = ["model_index.json", "scheduler/scheduler_config.json"]
    needed += [f"{part}/config.json" for part in parts]
    missing = [name for name in needed if not (folder / name).is_file()]
    for part, stem in parts.items():
        if not any(any((folder / part).glob(f"{stem}*.{ending}")) for ending in endings):
            missing.append(f"{part}/{stem}.{endings[0]}")
    return missing


def refuse_incomplete(folder: Path, missing: list[str]) -> None:
    """Raise BackboneUnavailableError if anything is missing."""
    if missing:
        raise BackboneUnavailableError(f"{folder} is not a complete diffusers pipeline folder; missing: {missing}")


def digest(pipeline: Any, parts: Iterable[str] = PARTS) -> str:
    """SHA-256 over all weights (names, shapes, float32 values) of a pipeline's parts.

    Equal models loaded at the same precision have equal digests wherever they came from.
    """
    state = hashlib.sha256()
    for part in sorted(parts):
        for name, value in sorted(getattr(pipeline, part).state_dict().items()):
            state.update(f"{part}.{name}{list(value.shape)}".encode())
            state.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def resolution(pipeline: Any, network: str = "unet") -> int:
    """The side length, in pixels, of the images that the pipeline's denoising network was built for."""
    halvings = len(pipeline.vae.config.block_out_channels) - 1
    return int(getattr(pipeline, network).config.sample_size) << halvings


def _in_cache(source: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    places = (try_to_load_from_cache(source, name, revision=revision) for name in ("model_index.json", "config.json"))
    return any(isinstance(place, str) for place in places)


def _damaged(source: str, reason: str) -> str:
    return f"the folder {source!r} is there, but cannot be loaded as a diffusion model: {reason}. Copy it again."


def _looks_like_path(source: str) -> bool:
    return source.startswith(("/", ".", "~")) or source.count("/") != 1


def _advice(reason: str, source: str, layout: str, revision: str | None = None) -> str:
    version = f" --revision {revision}" if revision else ""
    return (
        f"cannot load the diffusion model {source!r}: {reason}. It must be a folder in diffusers' layout "
        f"(model_index.json, {layout} with .safetensors weights). "
        f"On a machine with network: 'hf download {source}{version} --local-dir FOLDER', copy FOLDER "
        "here and give its path as the model."
    )
