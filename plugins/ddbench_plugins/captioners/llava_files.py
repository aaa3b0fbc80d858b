"""Where a LLaVA model lies: on the hub, in its local cache or in a folder; and which weights these are."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ddbench import ModelError, cached_first, hub_weights
from ddbench.files import damaged_files, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ddbench import Weights

Result = TypeVar("Result")

#: What is read of a model on the hub, and its bytes where they are known.
HUB_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "*processor_config.json",
    "model.safetensors.index.json",
    "*.safetensors",
)
BYTES = {"llava-hf/llava-1.5-7b-hf": 14_130_000_000}
#: What reading a model raises that is not there, or damaged: the libraries raise many kinds.
FAILURES = (Exception,)
NEEDED = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "*.safetensors")


def model_identity(model: str, revision: str | None, *, offline: bool) -> dict[str, Any]:
    """Return which weights a model name means: the hub's commit, or names, sizes and ends of a local folder's files.

    Raises:
        ModelError: it is neither there nor on the hub.
    """
    from ddbench import digest_bytes

    folder = Path(model).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors", ".model", ".jinja"))
        return {"folder": folder.resolve().name, "files": [[p.name, digest_bytes(*_ends(p))] for p in files]}
    from huggingface_hub import hf_hub_download

    def read(source: str, fixed: Mapping[str, Any]) -> str:
        return str(hf_hub_download(source, "config.json", **fixed))

    place = find(model, revision, read, offline=offline)
    return {"hub": model, "commit": Path(place).parent.name}


def _ends(path: Path, length: int = 1 << 20) -> tuple[bytes, bytes, bytes]:
    """First and last megabyte and the size: reading all of a 14 GB model would take longer than it is worth."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(length)
        file.seek(max(0, size - length))
        return first, file.read(), str(size).encode()


def find(
    model: str, revision: str | None, read: Callable[[str, Mapping[str, Any]], Result], *, offline: bool
) -> Result:
    """Read something of a model, given its folder or hub id and keyword arguments of the hub's functions.

    Raises:
        ModelError: it is not there and cannot be fetched.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir() and is_folder(model):
        raise _unavailable(model, "there is no such folder")
    if folder.is_dir():
        _check_folder(folder)
    try:
        if folder.is_dir():
            return read(str(folder), {"local_files_only": True})
        return cached_first(
            lambda offline: read(model, {"revision": revision, "local_files_only": offline}),
            here=on_hub(model, revision).here,
            offline=offline,
            failures=FAILURES,
        )
    except FAILURES as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise
        raise _unavailable(model, first_line(error)) from error


def on_hub(model: str, revision: str | None) -> Weights:
    """Return what is known of a model of the hub."""
    return hub_weights(model, HUB_FILES, revision, BYTES.get(model))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' own loading bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def is_folder(model: str) -> bool:
    """Whether a model's name is that of a folder, also of one that is not there."""
    return model.startswith(("/", ".", "~")) or model.count("/") != 1 or Path(model).is_dir()


def _check_folder(folder: Path) -> None:
    missing = [name for name in NEEDED if not any(folder.glob(name))]
    # Newer releases keep the image processor's settings in processor_config.json.
    if "preprocessor_config.json" in missing and (folder / "processor_config.json").is_file():
        missing.remove("preprocessor_config.json")
    if missing:
        raise _unavailable(str(folder), f"the folder has no {', '.join(missing)}")
    if broken := damaged_files(folder):
        raise _unavailable(str(folder), "; ".join(broken[:5]))


def _unavailable(model: str, reason: str) -> ModelError:
    return ModelError(
        f"Cannot load the captioning model {model!r}: {reason.rstrip('.')}.",
        hint=(
            "It must be a folder in transformers' LLaVA format: config.json, generation_config.json, tokenizer.json,"
            " tokenizer_config.json, preprocessor_config.json, processor_config.json, chat_template.json and"
            " model-*.safetensors with their index (14 GB for llava-hf/llava-1.5-7b-hf). On a machine with network:"
            " hf download llava-hf/llava-1.5-7b-hf --local-dir FOLDER; copy FOLDER here and pass"
            " -o captioner.model=FOLDER. Without it: -o method.captioner=attributes, or 'file' for captions you have."
        ),
    )
