"""A small CLIP tokenizer (byte-level BPE files) built from the texts it has to serve."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def learn_merges(texts: Iterable[str], limit: int) -> list[tuple[str, str]]:
    """Byte-pair merges of the words in ``texts``, most frequent pair first, at most ``limit``.

    Ties go to the lexicographically first pair: unlike the trainer of the tokenizers package, whose order of ties
    differs from call to call, this gives the same merges for the same texts.
    """
    from transformers import CLIPTokenizer

    # CLIP's own normaliser and word splitting, so that words are cut the same way in learning and in use.
    clip = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[]).backend_tokenizer
    counts: Counter[str] = Counter()
    for text, times in Counter(texts).items():
        for word, _ in clip.pre_tokenizer.pre_tokenize_str(clip.normalizer.normalize_str(text)):
            counts[word] += times
    spelled = {word: (*word[:-1], word[-1] + WORD_END) for word in sorted(counts)}
    frequency: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for word, pieces in spelled.items():
        for pair in pairwise(pieces):
            frequency[pair] += counts[word]
            places[pair].add(word)
    merges: list[tuple[str, str]] = []
    while len(merges) < limit and frequency:
        best = min(frequency, key=lambda pair: (-frequency[pair], pair))
        merges.append(best)
        for word in sorted(places.pop(best)):
            old, new = spelled[word], _joined(spelled[word], best)
            for pair in pairwise(old):
                frequency[pair] -= counts[word]
            for pair in pairwise(new):
                frequency[pair] += counts[word]
                places[pair].add(word)
            spelled[word] = new
            for pair in pairwise(old):
                if frequency[pair] <= 0:
                    del frequency[pair]
    return merges


def _joined(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    index = 0
    while index < len(pieces):
        step = 2 if pieces[index : index + 2] == pair else 1
        joined.append("".join(pieces[index : index + step]))
        index += step
    return tuple(joined)


def write_tokenizer(texts: Iterable[str], folder: Path, *, merges: int = 4096, length: int = 77) -> Any:
    """Write a CLIP tokenizer for ``texts`` to ``folder`` and return it loaded.

    Words of the texts become single tokens as far as ``merges`` reaches; any other word falls apart into smaller
    pieces, in the end single bytes, so no text is unknown. The layout of the vocabulary is CLIP's: 256 bytes, 256
    bytes at a word's end, merged pieces, start and end of text. ``length`` is the longest sequence of one encoding.
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learned = learn_merges(texts, merges)
    pieces = [*alphabet, *(letter + WORD_END for letter in alphabet)]
    pieces += list(dict.fromkeys(left + right for left, right in learned))
    pieces += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = json.dumps({piece: index for index, piece in enumerate(pieces)}, ensure_ascii=False)
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    rules = ["#version: 0.2", *(f"{left} {right}" for left, right in learned)]
    (folder / "merges.txt").write_text("\n".join(rules) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=length)
