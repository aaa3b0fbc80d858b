"""A tiny LLaVA with random weights in the hub's file layout, for tests of captioning."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

#: LLaVA v1's conversation, as the hub's llava-1.5 models carry it.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
WORDS = ("the", "a", "image", "is", "has", "small", "large", "red", "green", "round", "square", "shape", "dog", "cat")


def tiny_llava(folder: Path, seed: int = 0, words: Sequence[str] = WORDS, image_size: int = 28) -> Path:
    """Write a ``LlavaForConditionalGeneration`` with random weights and its processor (below 1 MB) to ``folder``.

    Its tokenizer knows ``words`` and single letters; its answers are random words of these.
    """
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    patch = 14
    tokenizer = _tokenizer(words)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=image_size,
            patch_size=patch,
            projection_dim=16,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // patch) ** 2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.save_pretrained(folder, max_shard_size="50KB")  # in parts with an index, as on the hub
    side = {"height": image_size, "width": image_size}
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": image_size}, crop_size=side),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def _tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    space = "▁"
    letters = [chr(code) for code in range(32, 127)]
    pieces = dict.fromkeys(["<unk>", "<s>", "</s>", "<pad>", "<image>", space, *(space + word for word in words)])
    pieces |= dict.fromkeys([*letters, *(space + letter for letter in letters)])
    # Scores make whole words win over their letters, as in Llama's unigram-like vocabulary.
    vocabulary = [(piece, -1.0 if len(piece) > 2 else -10.0) for piece in pieces]
    core = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    core.pre_tokenizer = pre_tokenizers.Metaspace(space)
    core.decoder = decoders.Metaspace(space)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        padding_side="left",
    )
