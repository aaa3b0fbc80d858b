from __future__ import annotations

from typing import Any

import pytest
import torch
from ddbench_plugins.diffusion.prompts import embed_prompts, token_windows

LONG = "describe the physical appearance of it " * 5  # single-byte tokens: 3 windows of 77


def test_windows_cover_all_tokens_once(pipeline: Any) -> None:
    ids = pipeline.tokenizer(LONG, truncation=False).input_ids
    windows = token_windows(pipeline.tokenizer, LONG, pad=False)
    assert [token for window in windows for token in window] == ids
    assert [len(window) for window in windows] == [77, 77, len(ids) - 154]
    padded = token_windows(pipeline.tokenizer, LONG)
    assert {len(window) for window in padded} == {77}
    assert padded[-1][len(ids) - 154 :] == [pipeline.tokenizer.pad_token_id] * (231 - len(ids))


def test_every_window_is_encoded_on_its_own(pipeline: Any) -> None:
    (positive,), (negative,) = embed_prompts(pipeline, [LONG], "cartoon")
    assert positive.shape == negative.shape == (231, 16)
    windows = token_windows(pipeline.tokenizer, LONG)
    second = pipeline.text_encoder(torch.tensor([windows[1]]))[0][0]
    torch.testing.assert_close(positive[77:154], second)


def test_one_window_equals_the_stock_encoding(pipeline: Any) -> None:
    (positive,), (negative,) = embed_prompts(pipeline, ["a short one"], "cartoon, anime, painting")
    stock, stock_negative = pipeline.encode_prompt("a short one", "cpu", 1, True, "cartoon, anime, painting")
    torch.testing.assert_close(positive[None], stock)
    torch.testing.assert_close(negative[None], stock_negative)


@pytest.mark.parametrize("pad", [True, False])
def test_negative_has_the_prompts_length(pipeline: Any, pad: bool) -> None:
    positives, negatives = embed_prompts(pipeline, ["a", "a longer prompt", LONG], "cartoon, anime", pad=pad)
    assert [len(one) for one in positives] == [len(one) for one in negatives]
    assert [len(one) for one in positives][:2] == ([77, 77] if pad else [3, 15])
