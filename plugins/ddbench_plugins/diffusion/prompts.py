"""Text embeddings of prompts of any length: windows of the tokenizer's length, encoded one by one and joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


def token_windows(tokenizer: Any, text: str, *, pad: bool = True) -> list[list[int]]:
    """The token ids of ``text`` cut into windows of ``tokenizer.model_max_length``.

    Start and end tokens stand once, at the very beginning and end of the text, as in the released VLCP code.
    ``pad`` fills the last window with the padding token, as Stable Diffusion does with a single window; the
    released code leaves it short.
    """
    length = tokenizer.model_max_length
    ids = tokenizer(text, truncation=False, verbose=False).input_ids
    windows = [ids[start : start + length] for start in range(0, len(ids), length)]
    if pad:
        windows[-1] = windows[-1] + [tokenizer.pad_token_id] * (length - len(windows[-1]))
    return windows


@torch.no_grad()
def embed_windows(pipeline: Any, windows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Hidden states [tokens, width] of the windows' tokens, every window encoded on its own."""
    encoder = pipeline.text_encoder
    parts = [encoder(torch.tensor([window], device=encoder.device))[0][0] for window in windows]
    return torch.cat(parts)


@torch.no_grad()
def embed_prompts(
    pipeline: Any, prompts: Sequence[str], negative_prompt: str, *, pad: bool = True
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Prompt and negative embeddings, one pair [tokens, width] per prompt, the members of a pair of equal length.

    The negative prompt is padded with the padding token to its partner's length, before it is cut into windows. It
    is cut off where it is the longer one.
    """
    tokenizer = pipeline.tokenizer
    negative_ids = tokenizer(negative_prompt, truncation=False, verbose=False).input_ids
    cache: dict[int, torch.Tensor] = {}
    known: dict[str, torch.Tensor] = {}
    positives, negatives = [], []
    for prompt in prompts:
        if prompt not in known:
            known[prompt] = embed_windows(pipeline, token_windows(tokenizer, prompt, pad=pad))
        count = len(known[prompt])
        if count not in cache:
            ids = (negative_ids + [tokenizer.pad_token_id] * count)[:count]
            length = tokenizer.model_max_length
            cache[count] = embed_windows(pipeline, [ids[start : start + length] for start in range(0, count, length)])
        positives.append(known[prompt])
        negatives.append(cache[count])
    return positives, negatives
