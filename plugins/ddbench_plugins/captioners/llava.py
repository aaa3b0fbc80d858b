"""Captions by LLaVA 1.5 with VLCP's prompt and decoding (Zou et al. 2025, suppl. §2)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ddbench import Captioner, Options, UsageError, derive_seed
from ddbench_plugins.captioners.llava_files import find, is_folder, model_identity, on_hub, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ddbench import Context, Demand, Split, Weights

PROMPT = (
    "Describe the physical appearance of the {class_name} in the image."
    " Include details about its shape, posture, color, and any distinct features."
)
#: The released script joins the sentences without a space.
OFFICIAL_PROMPT = PROMPT.replace("image. Include", "image.Include")


class LlavaOptions(Options):
    """Options of the captioner ``llava``."""

    model: str = Field(
        "llava-hf/llava-1.5-7b-hf",
        description="hub id or local folder of a LLaVA 1.5 model",
        json_schema_extra={"file": True},
    )
    revision: str | None = Field(None, description="commit, tag or branch of the hub model")
    prompt: str = Field(PROMPT, description="question asked for every image; {class_name} is replaced")
    class_name: Literal["first", "full"] = Field(
        "first", description="which of a class's comma-separated synonyms are named: the first, or the full string"
    )
    temperature: float = Field(0.2, ge=0, description="sampling temperature; 0 takes the likeliest word")
    max_new_tokens: int = Field(256, ge=1, description="longest answer in tokens")
    batch_size: int = Field(8, ge=1, description="images per batch")
    dtype: Literal["auto", "fp16", "bf16", "fp32"] = Field(
        "auto", description="fp16 on a GPU and fp32 on a CPU by default"
    )
    quantisation: Literal["none", "8-bit", "4-bit"] = Field(
        "none",
        description="weights of the language model's layers by bitsandbytes, on a GPU: half or a quarter of the memory,"
        " other captions",
    )
    seed: int = Field(0, description="seed of the sampling; the image's id is mixed in")


class Llava(Captioner):
    """Asks LLaVA for the physical appearance of the class's object in every image.

    Every image has its own random numbers, and a shard always the same batches.
    """

    shard = 512

    Options = LlavaOptions
    presets = (
        {
            "when": {"fidelity": "official"},
            "set": {"prompt": OFFICIAL_PROMPT, "class_name": "full"},
            "source": "VLCP's released captioning script: no space between the sentences, full synonym string",
        },
    )

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return which weights these are, in place of a local path."""
        return {"model": model_identity(ctx.options.model, ctx.options.revision, offline=ctx.machine.offline)}

    def weights(self, ctx: Context) -> list[Weights]:
        """Return the hub's model; none for a folder."""
        options: LlavaOptions = ctx.options
        if is_folder(options.model):
            return []
        return [on_hub(options.model, options.revision)]

    def demand(self, ctx: Context) -> Demand | None:
        """Count what captioning the training split needs of a GPU."""
        from ddbench_plugins.captioners.llava_counting import demand

        return demand(ctx.options, len(ctx.dataset.train))

    def caption(self, ctx: Context, split: Split, class_names: Sequence[str], size: int) -> Iterator[str]:
        """Yield one answer per image.

        Raises:
            ModelError: the model is not there and cannot be fetched; the message says which files to put where.
        """
        options: LlavaOptions = ctx.options

        def fetched() -> tuple[Any, Any]:
            with ctx.progress(f"loading {Path(options.model).name}"):  # 14 GB
                return load(options, ctx.machine.device, offline=ctx.machine.offline)

        model, processor = ctx.loaded(fetched)
        # Small images are enlarged by the processor, as in the official script; photographs are read at its size.
        side = size if size < 128 else crop_size(processor)
        with ctx.progress("captions", len(split)) as advance:
            for start in range(0, len(split), options.batch_size):
                rows = range(len(split))[start : start + options.batch_size]
                names = [named(class_names[split.labels[row]], options.class_name) for row in rows]
                questions = [options.prompt.replace("{class_name}", name) for name in names]
                seeds = [derive_seed(options.seed, "llava", split.ids[row]) for row in rows]
                yield from map(
                    clean, answer(model, processor, split.images.batch(rows, side), questions, seeds, options)
                )
                advance(rows.stop, len(split))


def named(name: str, which: str) -> str:
    """Return the first of a class's comma-separated synonyms, or all of them."""
    return name if which == "full" else name.split(",")[0].strip()


def clean(text: str) -> str:
    """Strip double quotes and ``'s``, as the released script does, and line breaks, which JSON lines cannot hold."""
    return re.sub(r"\s+", " ", text.replace('"', "").replace("'s", "")).strip()


def load(options: LlavaOptions, device: str, *, offline: bool) -> tuple[Any, Any]:
    """Return the model in evaluation mode and its processor; attention is PyTorch's fused one.

    Raises:
        ModelError: they are not there and cannot be fetched.
        UsageError: quantised weights cannot be had here.
    """
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    kind = options.dtype if options.dtype != "auto" else "fp16" if device.startswith("cuda") else "fp32"
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[kind]
    more: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa"}
    if options.quantisation != "none":
        more |= {"quantization_config": quantised(options.quantisation, dtype, device), "device_map": {"": device}}

    def read(source: str, fixed: Mapping[str, Any]) -> tuple[Any, Any]:
        with quiet():
            processor = AutoProcessor.from_pretrained(source, **fixed)
            return processor, LlavaForConditionalGeneration.from_pretrained(source, **more, **fixed)

    processor, model = find(options.model, options.revision, read, offline=offline)
    processor.tokenizer.padding_side = "left"  # answers must follow their questions directly
    # Quantised weights are on the device, and refuse to be moved.
    return (model if options.quantisation != "none" else model.to(device)).eval(), processor


def quantised(kind: str, dtype: Any, device: str) -> Any:
    """Return transformers' configuration of quantised weights.

    Raises:
        UsageError: bitsandbytes is not installed, or the device is not a GPU.
    """
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if not device.startswith("cuda"):
        raise UsageError(
            f"Weights in {kind} are for CUDA GPUs, and this run is on {device!r}.",
            hint="Use -o captioner.quantisation=none.",
        )
    if find_spec("bitsandbytes") is None:
        raise UsageError(
            f"Weights in {kind} need the package bitsandbytes, which is not installed.",
            hint="pip install 'ddbench[quantised]', or -o captioner.quantisation=none.",
        )
    if kind == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def answer(
    model: Any, processor: Any, images: Any, questions: Sequence[str], seeds: Sequence[int], options: LlavaOptions
) -> list[str]:
    """Return one answer per image, uint8 [n, S, S, C], and question; answer i depends on ``seeds[i]`` only."""
    import torch
    from PIL import Image
    from transformers import LogitsProcessorList

    prompts = [_conversation(processor, question) for question in questions]
    pictures = [Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3))) for image in images]
    inputs = processor(images=pictures, text=prompts, padding=True, return_tensors="pt")
    inputs = inputs.to(model.device, model.dtype)  # the tokens stay integers
    with torch.inference_mode():
        tokens = model.generate(
            **inputs,
            max_new_tokens=options.max_new_tokens,
            num_beams=1,
            # Sampling happens in the processor below, with a random stream per image.
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=LogitsProcessorList([_sampler(options.temperature, seeds)]),
        )
    new = tokens[:, inputs["input_ids"].shape[1] :]
    return [str(text) for text in processor.batch_decode(new, skip_special_tokens=True)]


def _sampler(temperature: float, seeds: Sequence[int]) -> Any:
    """Turn the choice of the largest score into a draw at ``temperature``, by Gumbel noise from one stream per row."""
    import torch
    from transformers import LogitsProcessor

    class Sampler(LogitsProcessor):
        def __init__(self) -> None:
            self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            if not temperature:
                return scores
            uniform = torch.stack([torch.rand(scores.shape[1], generator=stream) for stream in self.streams])
            noise = -torch.log(-torch.log(uniform.clamp(1e-10, 1 - 1e-7)))
            return scores.float() / temperature + noise.to(scores.device)

    return Sampler()


def _conversation(processor: Any, question: str) -> str:
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    return str(processor.apply_chat_template([turn], add_generation_prompt=True))


def crop_size(processor: Any) -> int:
    """Return the side of the images that the vision tower sees."""
    crop = processor.image_processor.crop_size
    return int(crop["height"] if isinstance(crop, dict) else crop.height)
