"""How much captions say about the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import step
from ddbench_plugins.diffusion.captions import caption_training_images, captions
from ddbench_plugins.methods.vlcp.text import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench import Context, Step

#: Captions used at most for the bag-of-words figure, and the share of them that is held out.
MOST, HELD_OUT = 20_000, 0.2


@step(
    options=["captioner"],
    needs=lambda ctx: [captions.of(ctx, ctx.options.captioner)],
    work=lambda ctx: min(len(ctx.dataset.train), MOST),
)
def caption_information(ctx: Context, out: Step) -> None:
    """Note how well a bag-of-words classifier names the class of held-out *training* captions without class names."""
    data = ctx.dataset
    texts = caption_training_images(ctx, ctx.options.captioner).texts
    out.info.update(bag_of_words(texts, data.train.labels, data.class_names))


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
