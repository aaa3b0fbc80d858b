"""What captioning by LLaVA needs of a GPU, counted from its configuration; answers are taken to be the longest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench import Demand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddbench_plugins.captioners.llava import LlavaOptions

#: llava-hf/llava-1.5-7b-hf config.json, with the defaults of transformers' LlamaConfig, as far as sizes depend on it.
LLAVA: Mapping[str, Mapping[str, Any]] = {
    "text_config": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32064,
    },
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "image_size": 336,
        "patch_size": 14,
    },
}
HUB = ("llava-hf/llava-1.5-7b-hf",)
#: Words of the question and the conversation around it, in tokens.
QUESTION = 64
#: Bytes per weight of a quantised layer, with the scales of its blocks.
BYTES = {"none": 2.0, "8-bit": 1.01, "4-bit": 0.53}


@dataclass(frozen=True)
class Sizes:
    """Numbers of weights and of cached values.

    Attributes:
        layers: weights of the language model's layers, which can be quantised.
        words: weights of its embedding and of its last layer.
        vision: weights of the vision tower.
        patches: tokens of an image.
        cached: keys and values of one token, in all layers.
    """

    layers: int
    words: int
    vision: int
    patches: int
    cached: int


def sizes(config: Mapping[str, Mapping[str, Any]]) -> Sizes:
    """Count the weights of a configuration; norms and biases are left out."""
    text, vision = config["text_config"], config["vision_config"]
    width, deep = text["hidden_size"], text["num_hidden_layers"]
    grouped = width * text.get("num_key_value_heads", text["num_attention_heads"]) // text["num_attention_heads"]
    seen = vision["hidden_size"]
    return Sizes(
        layers=deep * (2 * width * width + 2 * width * grouped + 3 * width * text["intermediate_size"]),
        words=2 * text["vocab_size"] * width,
        vision=vision["num_hidden_layers"] * (4 * seen * seen + 2 * seen * vision["intermediate_size"]),
        patches=(vision["image_size"] // vision["patch_size"]) ** 2,
        cached=2 * deep * grouped,
    )


def demand(options: LlavaOptions, images: int) -> Demand | None:
    """Count the captions of so many images; None for a model whose configuration is not here."""
    folder = Path(options.model).expanduser()
    if folder.is_dir():
        config = json.loads((folder / "config.json").read_text("utf-8"))
    elif options.model in HUB:
        config = LLAVA
    else:
        return None
    model = sizes(config)
    full = 4.0 if options.dtype == "fp32" else 2.0
    weights = model.layers * (BYTES[options.quantisation] if options.quantisation != "none" else full)
    weights += (model.words + model.vision) * full
    asked, answered = model.patches + QUESTION, options.max_new_tokens
    cached = model.cached * full
    batch = options.batch_size
    return Demand(
        flops=2.0 * images * (model.layers * (asked + answered) + model.words / 2 * answered + model.vision * asked),
        # Every word reads all weights once for the whole batch, and the cache of each image.
        traffic=images * answered * (weights / batch + cached * (asked + answered / 2)),
        fixed=int(weights),
        each=int(2 * cached * (asked + answered)),
        batch=batch,
        option="captioner.batch_size",
    )
