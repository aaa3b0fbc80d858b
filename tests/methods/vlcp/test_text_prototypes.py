"""Text prototypes: each rule of the paper, each quirk of the released code, and what must hold for any captions."""

from __future__ import annotations

import pytest
from ddbench_plugins.methods.vlcp.text import (
    TextRules,
    caption_score,
    cluster_vocabulary,
    common_words,
    stop_words,
    text_prototypes,
    tokens,
)
from hypothesis import given
from hypothesis import strategies as st

RULES = TextRules(beta=0.7, top_k=30, stop_words=frozenset({"the", "a", "is", "and"}))


def rules(**changes) -> TextRules:
    return TextRules(**{"beta": 0.7, "top_k": 30, "stop_words": RULES.stop_words, **changes})


def test_tokens_are_lower_case_words():
    assert tokens("A white-brown Dog, 3 years; it's naïve_x") == [
        *("a", "white", "brown", "dog", "years", "it", "s", "naïve", "x"),
    ]


def test_words_in_at_least_beta_of_the_captions_are_common():
    captions = ["red fur fur fur", "red fur", "red tail", "red ear"]
    assert common_words(captions, 0.5) == {"red", "fur"}
    assert common_words(captions, 0.51) == {"red"}
    assert common_words(captions, 1.0) == {"red"}


def test_the_vocabulary_counts_tokens_without_stop_name_and_common_words():
    captions = ["the small dog, a small tail", "a long tail and the red fur"]
    found = cluster_vocabulary(captions, "sheep dog", frozenset({"red"}), RULES)
    assert found == {"small": 2, "tail": 2, "long": 1, "fur": 1}
    assert list(found) == ["small", "tail", "long", "fur"]


def test_only_the_k_most_frequent_words_count():
    assert cluster_vocabulary(["b a a c c c"], "x", frozenset(), rules(top_k=2, stop_words=frozenset())) == {
        "c": 3,
        "a": 2,
    }


def test_a_word_counts_once_per_caption():
    vocabulary = {"small": 3, "fur": 2}
    assert caption_score("Small, small fur", vocabulary) == 5
    assert caption_score("smaller furry", vocabulary) == 0


def test_the_released_substring_tests():
    assert caption_score("smaller furry", {"small": 3, "fur": 2}, substring=True) == 5
    assert caption_score("Small fur", {"small": 3, "fur": 2}, substring=True) == 2
    released, whole = rules(substring=True), rules()
    assert "art" in cluster_vocabulary(["art"], "cartoon", frozenset(), whole)
    assert "art" not in cluster_vocabulary(["art"], "cartoon", frozenset(), released)


def test_every_cluster_gets_the_caption_that_says_most_of_what_it_shares():
    captions = [
        "the dog is small and brown",  # cluster 0
        "the dog is small with a curly brown tail",
        "the dog is small",
        "the dog is tall and black",  # cluster 1
        "the dog is tall",
    ]
    found = text_prototypes(captions, [0, 0, 0, 1, 1], [0.0] * 5, "dog", 2, RULES)
    assert found == [captions[1], captions[3]]


def test_the_first_caption_wins_a_tie():
    captions = ["one red", "two red", "far", "off", "near"]
    chosen = text_prototypes(captions, [0, 0, 0, 0, 0], [1.0] * 5, "x", 1, rules(top_k=1))
    assert chosen == ["one red"]


def test_common_words_are_those_of_the_class_not_of_the_cluster():
    captions = ["red", "red blue", "green blue", "green"]
    found = text_prototypes(captions, [0, 0, 1, 1], [0.0] * 4, "x", 2, rules(beta=0.5))
    # Every word is in half of the captions, so the nearest captions stand in.
    assert found == ["red", "green blue"]


def test_without_a_telling_word_the_nearest_caption_stands_in():
    captions = ["the dog", "a dog", "dog"]
    assert text_prototypes(captions, [0, 0, 0], [3.0, 1.0, 2.0], "dog", 1, RULES) == ["a dog"]


def test_an_empty_cluster_and_uneven_lists_are_refused():
    with pytest.raises(ValueError, match="cluster 1 is empty"):
        text_prototypes(["a"], [0], [0.0], "x", 2, RULES)
    with pytest.raises(ValueError, match="1 captions, 2 clusters"):
        text_prototypes(["a"], [0, 0], [0.0], "x", 1, RULES)


def test_stop_word_lists(tmp_path):
    assert "the" in stop_words("sklearn") and len(stop_words("sklearn")) == 318
    assert stop_words("none") == frozenset()
    (tmp_path / "stop.txt").write_text("Foo\nbar\n", "utf-8")
    assert stop_words(str(tmp_path / "stop.txt")) == {"foo", "bar"}


words = st.sampled_from(["red", "blue", "small", "tail", "fur", "dog", "part", "art", "The", "a"])
captions_of = st.lists(st.lists(words, min_size=0, max_size=6).map(" ".join), min_size=1, max_size=12)


@given(captions_of, st.floats(0.05, 1), st.integers(1, 5), st.booleans(), st.data())
def test_prototypes_are_captions_of_their_own_cluster(captions, beta, top_k, substring, data):
    count = data.draw(st.integers(1, len(captions)))
    clusters = [*range(count), *data.draw(st.lists(st.integers(0, count - 1), min_size=12, max_size=12))]
    clusters = clusters[: len(captions)]
    chosen = rules(beta=beta, top_k=top_k, substring=substring)
    found = text_prototypes(captions, clusters, [0.0] * len(captions), "dog", count, chosen)
    for cluster, text in enumerate(found):
        assert text in [caption for caption, member in zip(captions, clusters, strict=True) if member == cluster]


@given(captions_of, st.floats(0.05, 1), st.integers(1, 5))
def test_the_vocabulary_never_holds_what_is_dropped(captions, beta, top_k):
    common = common_words(captions, beta)
    found = cluster_vocabulary(captions, "dog", common, rules(beta=beta, top_k=top_k))
    assert len(found) <= top_k
    assert not set(found) & (common | RULES.stop_words | {"dog"})
    assert list(found.values()) == sorted(found.values(), reverse=True)


@given(captions_of)
def test_case_does_not_matter_by_default(captions):
    upper = [caption.upper() for caption in captions]
    same = ([0] * len(captions), [0.0] * len(captions), "dog", 1, RULES)
    assert text_prototypes(captions, *same)[0].upper() == text_prototypes(upper, *same)[0]
