"""Operations and bytes of diffusion models, counted without weights, and what a plan for a card says of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ddbench_plugins.captioners import llava_counting
from ddbench_plugins.captioners.llava import LlavaOptions
from ddbench_plugins.diffusion import counting

import ddbench
from ddbench.runtime.cards import GIB
from ddbench.testing.diffusion import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


def test_a_folder_is_counted_as_its_weights_are(folder):
    from ddbench_plugins.diffusion.pipeline import load_pipeline
    from torch.utils.flop_counter import FlopCounterMode

    found = counting.counts(str(folder), 16)
    pipeline = load_pipeline(folder)
    assert found.unet.parameters == sum(weight.numel() for weight in pipeline.unet.parameters())
    assert found.text.parameters == sum(weight.numel() for weight in pipeline.text_encoder.parameters())
    import torch

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        pipeline.vae.encode(torch.zeros(1, 3, 16, 16))
    attention = 2 * 2 * 64 * 64 * 8  # of 8 × 8 positions with 8 channels, which the counter leaves out on a CPU
    assert found.encoder.flops == counter.get_total_flops() + attention
    larger = counting.counts(str(folder), 32)
    assert larger.encoder.flops == 4 * counter.get_total_flops() + 16 * attention
    assert found.unet.checkpointed < found.unet.kept < larger.unet.kept
    assert counting.counts("someone/elses-model", 64) is None


@pytest.mark.slow
def test_stable_diffusion_has_the_published_number_of_weights():
    found = counting.counts(counting.HUB[0], 512)
    assert found.unet.parameters == 859_520_964
    assert found.text.parameters == 123_060_480
    assert 0.78e12 < found.unet.flops < 0.82e12  # 2 × 339 GMAC of convolutions and matrix products, and attention


def test_llava_has_the_published_number_of_weights():
    found = llava_counting.sizes(llava_counting.LLAVA)
    assert found.layers + found.words == pytest.approx(6.738e9, rel=2e-3)  # LLaMA-7B
    assert found.vision == pytest.approx(0.303e9, rel=0.01)  # CLIP ViT-L/14
    assert found.patches == 576
    plain = llava_counting.demand(LlavaOptions(), 1000)
    assert 13 * GIB < plain.fixed < 14 * GIB and plain.option == "captioner.batch_size"
    small = llava_counting.demand(LlavaOptions(quantisation="4-bit"), 1000)
    assert small.fixed < 0.35 * plain.fixed and small.flops == plain.flops and small.traffic < plain.traffic
    assert llava_counting.demand(LlavaOptions(model="someone/elses"), 10) is None


def test_a_plan_for_a_card_says_what_fits(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"method": {"backbone": str(folder), "finetune_batch_size": 8, "resolution": 16}}
    plan = ddbench.plan("vlcp", "minimax", ipc=1, options=options, card="rtx-4090")
    costs = {line.name: line.estimate for line in plan.run.lines}
    for name in ("latents", "finetuned", "synthesis"):
        assert costs[name].seconds > 0 and costs[name].advice.startswith("fits: ")
    assert costs["student"].seconds is None and costs["prototypes"].seconds is None
    text = str(plan)
    assert "GeForce RTX 4090: 165.2 TFLOP/s" in text and "not measured" in text
    assert "finetuned of vlcp on digits fits" in text
    here = ddbench.plan("vlcp", "minimax", ipc=1, options=options)
    assert "not measured" not in str(here) and not any(line.estimate.advice for line in here.run.lines)


def test_training_costs_what_its_parts_do(folder, ctx, digits):
    from ddbench_plugins.methods.vlcp.options import VLCPOptions

    from ddbench.plugin.options import Resolved

    mine = replace(ctx, _dataset=digits, resolved=Resolved(VLCPOptions(backbone=str(folder))))
    found = counting.counts(str(folder), 16)
    settings = {"images": 100, "batch": 4, "cached": False, "views": 1}
    plain = counting.training(mine, 16, checkpointing=False, **settings)
    again = counting.training(mine, 16, checkpointing=True, **settings)
    assert again.flops - plain.flops == 100 * found.unet.flops
    assert again.fixed == plain.fixed and again.each <= plain.each
    cached = counting.training(mine, 16, checkpointing=False, **{**settings, "cached": True, "images": 10**6})
    assert cached.flops < 10**6 * (3 * found.unet.flops + found.text.flops + found.encoder.flops)
