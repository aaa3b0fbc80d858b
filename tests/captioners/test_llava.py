"""Captioning with a tiny random LLaVA in the hub's format."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.captioners import llava
from ddbench_plugins.captioners.llava import OFFICIAL_PROMPT, Llava, LlavaOptions

import ddbench
from ddbench.plugin.options import Preset, Resolved, resolve
from ddbench.testing.llava import tiny_llava


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_llava(tmp_path_factory.mktemp("llava"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5 << 20
    return folder


@pytest.fixture
def offline(ctx):
    return replace(ctx, machine=ddbench.Machine("cpu", "fp32", offline=True))


def options(model, **changes):
    return LlavaOptions(**{"model": str(model), "max_new_tokens": 8, "batch_size": 2, **changes})


def split():
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    return ddbench.Split(ddbench.ArrayImages(images), np.array([0, 0, 1, 1, 1]), tuple("abcde"))


def ask(ctx, chosen):
    mine = replace(ctx, resolved=Resolved(chosen))
    return list(Llava().caption(mine, split(), ["dog, domestic dog", "cat"], 32))


def test_answers_repeat_and_differ_between_images_and_seeds(offline, model):
    first = ask(offline, options(model))
    assert len(first) == 5 and all(isinstance(text, str) for text in first)
    assert first == ask(offline, options(model))
    assert len(set(first)) > 1
    assert first != ask(offline, options(model, seed=1))


def test_an_answer_does_not_depend_on_its_neighbours(offline, model):
    chosen = options(model)
    network, processor = llava.load(chosen, "cpu", offline=True)
    images = split().images.batch(range(4), 32)
    questions = ["the red dog"] * 4
    together = llava.answer(network, processor, images, questions, [1, 2, 3, 4], chosen)
    assert llava.answer(network, processor, images[2:], questions[2:], [3, 4], chosen) == together[2:]
    assert llava.answer(network, processor, images[:1], questions[:1], [1], chosen) == together[:1]


def test_greedy_answers_need_no_seed(offline, model):
    assert ask(offline, options(model, temperature=0)) == ask(offline, options(model, temperature=0, seed=1))


def test_a_part_of_a_split_gets_the_captions_of_the_whole(offline, model):
    mine = replace(offline, resolved=Resolved(options(model)))
    names = ["dog, domestic dog", "cat"]
    parts = [split().part(range(2)), split().part(range(2, 5))]
    assert [part.ids for part in parts] == [("a", "b"), ("c", "d", "e")]
    texts = [text for part in parts for text in Llava().caption(mine, part, names, 32)]
    assert texts == ask(offline, options(model))


def test_official_fidelity_asks_as_the_released_script():
    sane = resolve(Llava, "captioner/llava", {}, Preset(), {}).values
    official = resolve(Llava, "captioner/llava", {}, Preset(fidelity="official"), {}).values
    assert "image. Include" in sane.prompt and sane.class_name == "first"
    assert official.prompt == OFFICIAL_PROMPT and "image.Include" in OFFICIAL_PROMPT
    assert official.class_name == "full"
    assert llava.named("English springer, English springer spaniel", "first") == "English springer"
    assert llava.named("English springer, English springer spaniel", "full").endswith("spaniel")


def test_quotes_are_stripped():
    assert llava.clean(' The "dog"\'s coat\nis red. ') == "The dog coat is red."


def test_what_is_missing_is_explained(offline, tmp_path, model):
    with pytest.raises(ddbench.ModelError, match=r"no config.json.*safetensors") as found:
        ask(offline, options(tmp_path))
    assert "--local-dir" in found.value.hint
    with pytest.raises(ddbench.ModelError, match="no such folder"):
        ask(offline, options(tmp_path / "nowhere"))
    with pytest.raises(ddbench.ModelError, match=r"llava-hf/llava-1\.5-7b-hf") as found:
        ask(offline, LlavaOptions())
    assert "captioner=attributes" in found.value.hint


@pytest.mark.parametrize(
    ("pattern", "content", "reason"),
    [
        ("*.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("*.safetensors", b"", "is empty"),
        ("*.safetensors", b"x" * 100, "cannot be read"),
        ("config.json", b"{", "cannot be read"),
    ],
)
def test_the_damaged_file_of_a_folder_is_named(offline, tmp_path, model, pattern, content, reason):
    broken = shutil.copytree(model, tmp_path / "broken")
    (path := next(broken.glob(pattern))).write_bytes(content)
    with pytest.raises(ddbench.ModelError, match=rf"{path.name} .*{reason}"):
        ask(offline, options(broken))


def test_weights_in_8_bits_answer(model):
    """On the CPU, which bitsandbytes can, too."""
    pytest.importorskip("bitsandbytes")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = llava.quantised("8-bit", torch.float16, "cuda")
    kind = transformers.LlavaForConditionalGeneration
    network = kind.from_pretrained(
        model, dtype=torch.float32, quantization_config=config, device_map={"": "cpu"}
    ).eval()
    assert {weight.dtype for weight in network.parameters()} == {torch.int8, torch.float32}
    processor = transformers.AutoProcessor.from_pretrained(model)
    processor.tokenizer.padding_side = "left"
    answers = llava.answer(
        network, processor, np.zeros((2, 32, 32, 3), np.uint8), ["the dog?", "a cat?"], [0, 1], options(model)
    )
    assert len(answers) == 2 and all(isinstance(answer, str) and answer for answer in answers)


def test_identity_follows_the_weights(offline, tmp_path, model):
    other = tiny_llava(tmp_path / model.name, seed=1)
    mine, theirs = (Llava().identity(replace(offline, resolved=Resolved(options(folder)))) for folder in (model, other))
    assert mine["model"]["folder"] == theirs["model"]["folder"]
    assert mine != theirs
    assert str(model.parent) not in str(mine)
    with pytest.raises(ddbench.ModelError):
        Llava().identity(replace(offline, resolved=Resolved(LlavaOptions())))
