"""Captions of the training images as a cached step, and how much they say about the classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import PluginError, plugin_errors
from ddbench_plugins.captioners.metadata import FILE, PARTIAL, read_metadata, write_metadata
from ddbench_plugins.methods.vlcp.text import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench import Context, Done, Step

#: Captions used at most for the bag-of-words figure, and the share of them that is held out.
MOST, HELD_OUT = 20_000, 0.2


@dataclass(frozen=True)
class Captions:
    """Captions of the training images.

    Attributes:
        texts: one per image, in order.
        done: the finished step; its folder holds ``metadata.jsonl``.
        captioner: the captioner's name.
    """

    texts: tuple[str, ...]
    done: Done
    captioner: str


def caption_training_images(ctx: Context, name: str) -> Captions:
    """Return the captions of the training split; they depend on neither IPC nor seed.

    Raises:
        UsageError: no such captioner.
        PluginError: it did not return one text per image.
    """
    captioner, mine, entry = ctx.use("captioner", name)
    data, split = ctx.dataset, ctx.dataset.train
    with plugin_errors(entry):
        identity = captioner.identity(mine)
    inputs = {
        "dataset": data.fingerprint,
        "size": data.image_size,
        "class_names": list(data.class_names),
        "captioner": entry.spec.name,
        "argument": entry.argument,
        "version": entry.spec.cache_version,
        # What a captioner says of its files takes the place of their paths.
        "options": {**mine.resolved.dump(), **identity},
    }

    def build(step: Step) -> None:
        with plugin_errors(entry):
            texts = captioner.caption(replace(mine, checkpoint=step), split, data.class_names, data.image_size)
            if len(texts) != len(split) or not all(isinstance(text, str) for text in texts):
                raise PluginError(f"Captioner {name} returned {len(texts)} captions for {len(split)} images.")
        write_metadata(step.dir / FILE, split.ids, texts)
        (step.dir / PARTIAL).unlink(missing_ok=True)

    done = ctx.step("captions", inputs, build)
    return Captions(tuple(text for _, text in read_metadata(done.dir / FILE)), done, name)


def caption_information(ctx: Context, captions: Captions) -> dict[str, Any]:
    """Return how well a bag-of-words classifier names the class of held-out *training* captions without class names.

    Returns:
        ``accuracy`` (a fraction), ``chance``, the sizes of both parts, and the number of words.
    """
    data = ctx.dataset
    inputs = {"captions": captions.done.key, "dataset": data.fingerprint, "most": MOST, "version": 1}

    def build(step: Step) -> None:
        step.info.update(bag_of_words(captions.texts, data.train.labels, data.class_names))

    return dict(ctx.step("caption-information", inputs, build).info)


def bag_of_words(texts: Sequence[str], labels: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Train and test a logistic regression on word counts; words of class names and stop words do not count.

    Every fifth caption of a class, in a seeded order, is held out.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    order = rng.permutation(len(texts))[:MOST]
    rank = np.zeros(len(order), np.int64)  # of each caption within its class
    for label in np.unique(labels[order]):
        mine = np.flatnonzero(labels[order] == label)
        rank[mine] = np.arange(len(mine))
    held_out = rank % round(1 / HELD_OUT) == 0
    names = {word for name in class_names for word in tokens(name)}
    cleaned = [" ".join(word for word in tokens(texts[i]) if word not in names) for i in order]
    answers = labels[order]
    report = {"chance": 1 / len(class_names), "train": int((~held_out).sum()), "held_out": int(held_out.sum())}
    counter = CountVectorizer(stop_words="english")
    try:
        train = counter.fit_transform([text for text, out in zip(cleaned, held_out, strict=True) if not out])
    except ValueError:  # no word is left: the captions say nothing
        return {**report, "accuracy": 1 / len(class_names), "words": 0}
    if len(set(answers[~held_out])) < 2:
        return {**report, "accuracy": 1.0, "words": len(counter.vocabulary_)}
    test = counter.transform([text for text, out in zip(cleaned, held_out, strict=True) if out])
    model = LogisticRegression(max_iter=1000).fit(train, answers[~held_out])
    accuracy = float(model.score(test, answers[held_out]))
    return {**report, "accuracy": accuracy, "words": len(counter.vocabulary_)}
