"""Text prototypes: each cluster's caption with most of the words that set it apart (Zou et al. 2025, §3.3)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Runs of letters of any script.
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class TextRules:
    """How words are counted.

    Attributes:
        beta: words in at least this share of a class's captions say the same of all of them and are dropped.
        top_k: size of a cluster's vocabulary.
        substring: the released code's behaviour: a word is a class-name word if it is part of the name's string, and
            occurs in a caption if it is part of its string as written ("art" is in "part", "Small" is not "small").
            By default whole words are compared, whatever their case.
        stop_words: words without meaning.
    """

    beta: float
    top_k: int
    stop_words: frozenset[str]
    substring: bool = False


def tokens(text: str) -> list[str]:
    """Return the lower-case alphabetic words of a text, in order."""
    return _WORD.findall(text.lower())


def common_words(captions: Sequence[str], beta: float) -> frozenset[str]:
    """Return the words whose document frequency is at least ``beta`` times the number of captions."""
    frequency = Counter(word for caption in captions for word in set(tokens(caption)))
    return frozenset(word for word, count in frequency.items() if count >= beta * len(captions))


def cluster_vocabulary(
    captions: Sequence[str], class_name: str, common: Collection[str], rules: TextRules
) -> dict[str, int]:
    """Return a cluster's most frequent telling words with their counts, most frequent first.

    Words of equal count are ordered by their first occurrence.
    """
    name = frozenset(tokens(class_name))

    def telling(word: str) -> bool:
        named = word in class_name.lower() if rules.substring else word in name
        return not named and word not in rules.stop_words and word not in common

    counts = Counter(word for caption in captions for word in tokens(caption) if telling(word))
    return dict(counts.most_common(rules.top_k))


def caption_score(caption: str, vocabulary: dict[str, int], *, substring: bool = False) -> int:
    """Return the sum of the counts of the vocabulary words that occur in a caption; each word counts once."""
    if substring:
        return sum(count for word, count in vocabulary.items() if word in caption)
    present = set(tokens(caption))
    return sum(count for word, count in vocabulary.items() if word in present)


def text_prototypes(
    captions: Sequence[str],
    clusters: Sequence[int],
    distances: Sequence[float],
    class_name: str,
    count: int,
    rules: TextRules,
) -> list[str]:
    """Return one caption per cluster of a class.

    Args:
        captions: of the class's inliers [n].
        clusters: the cluster of each [n], 0 … count - 1.
        distances: of each to its cluster's centre [n]; the nearest caption stands in where no telling word is left.
        class_name: whose words are dropped.
        count: number of clusters.
        rules: how words are counted.
    """
    if not len(captions) == len(clusters) == len(distances):
        raise ValueError(f"{len(captions)} captions, {len(clusters)} clusters and {len(distances)} distances")
    common = common_words(captions, rules.beta)
    chosen = []
    for cluster in range(count):
        members = [i for i, assigned in enumerate(clusters) if assigned == cluster]
        if not members:
            raise ValueError(f"cluster {cluster} is empty")
        texts = [captions[i] for i in members]
        vocabulary = cluster_vocabulary(texts, class_name, common, rules)
        if vocabulary:
            scores = [caption_score(text, vocabulary, substring=rules.substring) for text in texts]
            best = members[max(range(len(members)), key=scores.__getitem__)]  # the first one on ties
        else:
            best = min(members, key=distances.__getitem__)
        chosen.append(captions[best])
    return chosen


def stop_words(name: str) -> frozenset[str]:
    """Return a list of stop words: ``sklearn`` (English), ``none``, or a text file with one word a line.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if name == "none":
        return frozenset()
    if name == "sklearn":
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return frozenset(ENGLISH_STOP_WORDS)
    return frozenset(Path(name).expanduser().read_text("utf-8").lower().split())
