"""What frozen encoders make of the images and captions of a data set, as cached steps."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

import ddbench
from ddbench_plugins.captioners.from_file import FromFile
from ddbench_plugins.diffusion.captions import caption_training_images, captions
from ddbench_plugins.pairs.encoders import (
    encode_texts,
    image_encoder,
    image_identity,
    place,
    pooling,
    text_folder,
    text_weights,
)
from ddbench_plugins.training.predict import as_float

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from ddbench import Context
    from ddbench_plugins.pairs.options import PairOptions

#: Images that go through an encoder together.
BATCH = 64
_PUNCTUATION = re.compile(r"[.!\"()*#:;~]")


@dataclass(frozen=True)
class Captioned:
    """The captions of a split: of image ``owners[j]`` caption j, as text and as vector [D]."""

    texts: tuple[str, ...]
    vectors: Tensor
    owners: Tensor


def steps(ctx: Context, options: PairOptions, *, test: bool) -> list[ddbench.StepCall]:
    """Return the steps of the training split, and of the test split if asked for.

    Raises:
        UsageError: the captioner cannot describe test images.
    """
    if test:
        check_captioner(ctx, options.captioner)
    parts = ("train", "test") if test else ("train",)
    calls = [text_vectors_of(ctx, options, part) for part in parts]
    if options.trained == "head":
        calls += [image_features.of(ctx, *_images(options), part) for part in parts]
    return calls


def check_captioner(ctx: Context, name: str) -> None:
    """Refuse a captioner that cannot describe test images.

    Raises:
        UsageError: it learns from the images that it describes, or goes by names that training images have, too.
    """
    used, data = ctx.use("captioner", name), ctx.dataset
    hint = "Name one that goes by pixels and needs no training: -o eval.captioner=attributes."
    if used.steps():
        raise ddbench.UsageError(
            f"The captioner {name} would be trained on the test images in order to describe them.", hint=hint
        )
    if isinstance(used.plugin, FromFile) and (both := set(data.train.ids) & set(data.test.ids)):
        raise ddbench.UsageError(
            f"A training and a test image of {data.name} are both named {min(both)!r}, so that a file of captions does"
            " not tell them apart.",
            hint=hint,
        )


def text_vectors_of(ctx: Context, options: PairOptions, part: str) -> ddbench.StepCall:
    """Return the step of the captions of a split."""
    encoder = place(options.text_encoder)
    return text_vectors.of(ctx, encoder, pooling(options), options.words, options.captioner, part)


def features(ctx: Context, options: PairOptions, part: str) -> Tensor:
    """Return what the frozen encoder makes of the images of a split, float32 [N, F]."""
    done = image_features(ctx, *_images(options), part)
    return torch.from_numpy(np.load(done.dir / "features.npy", allow_pickle=False))


def captioned(ctx: Context, options: PairOptions, part: str) -> Captioned:
    """Return the captions of a split."""
    folder = text_vectors_of(ctx, options, part).done().dir
    vectors, owners = (torch.from_numpy(np.load(folder / f"{name}.npy", allow_pickle=False)) for name in ARRAYS)
    return Captioned(tuple(json.loads((folder / "texts.json").read_text("utf-8"))), vectors, owners)


ARRAYS = ("vectors", "owners")


@ddbench.step(
    identity=lambda ctx, encoder, weights, part: {"weights": image_identity(ctx, _named(encoder, weights))},
    work=lambda ctx, encoder, weights, part: len(getattr(ctx.dataset, part)),
)
def image_features(ctx: Context, out: ddbench.Step, encoder: str, weights: Path | str, part: str) -> None:
    """Keep what a frozen encoder makes of the images of a split: float32 [N, F]."""
    split = getattr(ctx.dataset, part)
    encode = image_encoder(ctx, _named(encoder, weights), 0)
    made, done = [], 0
    with ctx.progress(f"features of {part} images", len(split)) as advance, torch.inference_mode():
        for batch in split.images.batches(ctx.dataset.image_size, BATCH):
            images = as_float(torch.from_numpy(batch).to(ctx.machine.device).permute(0, 3, 1, 2))
            made.append(encode.network.embed(encode.inputs(images)).float().cpu().numpy())
            done += len(batch)
            advance(done)
    np.save(out.dir / "features.npy", np.concatenate(made), allow_pickle=False)


@ddbench.step(
    needs=lambda ctx, encoder, how, words, captioner, part: [captions.of(_as_training(ctx, part), captioner)],
    identity=lambda ctx, encoder, how, words, captioner, part: {"weights": text_weights(ctx, str(encoder))},
    work=lambda ctx, encoder, how, words, captioner, part: len(getattr(ctx.dataset, part)),
)
def text_vectors(
    ctx: Context, out: ddbench.Step, encoder: Path | str, how: str, words: int | None, captioner: str, part: str
) -> None:
    """Keep what a frozen encoder makes of the captions of a split, each line of an image's text being a caption."""
    stored = caption_training_images(_as_training(ctx, part), captioner).texts
    found = [(owner, line) for owner, text in enumerate(stored) for line in text.split("\n") if line.strip()]
    texts = [line if words is None else cleaned(line, words) for _, line in found]
    with_none = len(stored) - len({owner for owner, _ in found})
    if with_none:
        raise ddbench.DataError(f"Captioner {captioner} has no caption for {with_none} {part} images.")
    vectors = vectors_of(ctx, str(encoder), how, texts)
    np.save(out.dir / "vectors.npy", vectors, allow_pickle=False)
    np.save(out.dir / "owners.npy", np.array([owner for owner, _ in found], np.int64), allow_pickle=False)
    out.info["texts"] = ddbench.digest([texts, [owner for owner, _ in found]])[:16]
    ddbench.write_atomic(out.dir / "texts.json", json.dumps(texts, ensure_ascii=False).encode())


def vectors_of(ctx: Context, encoder: str, how: str, texts: Sequence[str]) -> np.ndarray:
    """Return float32 [n, D]; texts that are alike go through the encoder once."""
    distinct = list(dict.fromkeys(texts))
    made, done, cut = {}, 0, 0
    with ctx.progress("text vectors", len(distinct)) as advance:
        for places, vectors, longer in encode_texts(text_folder(ctx, encoder), distinct, how, ctx.machine.device):
            made.update({distinct[place]: vector for place, vector in zip(places, vectors.numpy(), strict=True)})
            cut += longer
            done += len(places)
            advance(done)
    if cut:
        ctx.warn(f"{cut} of {len(distinct)} captions are longer than {encoder} reads, and were cut.")
    return np.stack([made[text] for text in texts]).astype(np.float32)


def cleaned(text: str, words: int) -> str:
    """Return a caption as BLIP's ``pre_caption`` leaves it: lower case, without punctuation, cut after some words."""
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split()[:words])


def _as_training(ctx: Context, part: str) -> Context:
    """Return the run with a split in place of the training one, which is what captioners describe."""
    data = ctx.dataset
    if part == "train":
        return ctx
    return ctx.with_dataset(replace(data, train=data.test, fingerprint=ddbench.digest([data.fingerprint, "test"])))


def _images(options: PairOptions) -> tuple[str, Path | str]:
    return options.image_encoder, place(options.image_file)


def _named(encoder: str, weights: Path | str) -> PairOptions:
    from ddbench_plugins.pairs.options import PairOptions

    return PairOptions.model_validate({"image_encoder": encoder, "image_file": str(weights)})
