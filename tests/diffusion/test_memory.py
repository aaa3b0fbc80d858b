"""Captions, latents and fine-tuning need the memory of a batch, however many images there are."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.captioners import attributes
from ddbench_plugins.diffusion.backbone import Backbone
from ddbench_plugins.diffusion.captions import caption_training_images
from ddbench_plugins.diffusion.class_latents import class_latents, latents_of
from ddbench_plugins.diffusion.finetune import FinetuneSettings, finetune
from ddbench_plugins.diffusion.reading import Reading
from ddbench_plugins.methods.vlcp.options import VLCPOptions

import ddbench
from ddbench.plugin.options import Resolved
from ddbench.runtime.store import Store

SIDE = 64
FEW, MANY = 16, 80


class Drawn(ddbench.ImageSource):
    """Images that exist only while somebody holds them."""

    channels = 3

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def load(self, index, size):
        return np.random.default_rng(index).integers(0, 256, (size, size, 3), np.uint8)


def dataset(count):
    split = ddbench.Split(Drawn(count), np.arange(count) % 2, tuple(f"{i}.png" for i in range(count)))
    return ddbench.Dataset(
        name="drawn",
        class_names=("one", "other"),
        class_ids=("a", "b"),
        image_size=SIDE,
        mean=(0.5,) * 3,
        std=(0.3,) * 3,
        train=split,
        test=split,
        fingerprint=ddbench.digest(["drawn", count]),
        origin="drawn",
    )


def captions(ctx, folder):
    return caption_training_images(ctx, "attributes").texts[-1]


def latents(ctx, folder):
    return latents_of(class_latents(ctx), 1)[-1]


def tuned(cached):
    def train(ctx, folder):
        settings = FinetuneSettings(resolution=16, epochs=1, batch_size=8, cache_latents=cached)
        images = Reading(ctx.dataset.train.images, SIDE)
        model = Backbone(ctx, str(folder), None, {"model": "tiny"}).load()
        return finetune(model, images, ["text"] * len(images), ctx.home / f"tuned-{len(images)}", settings, seed=0)

    return train


@pytest.mark.parametrize("stage", [captions, latents, tuned(True), tuned(False)])
def test_the_peak_does_not_grow_with_the_images(ctx, tiny_folder, tmp_path, monkeypatch, stage):
    monkeypatch.setattr(attributes, "BATCH", 8)
    monkeypatch.setattr("ddbench_plugins.diffusion.posteriors.BATCH", 8)
    options = Resolved(VLCPOptions(batch_size=8, backbone=str(tiny_folder), resolution=SIDE))

    def peak(count):
        mine = replace(ctx, store=Store(tmp_path / str(count)), resolved=options, _dataset=dataset(count))
        mine.home.mkdir()
        tracemalloc.start()
        try:
            stage(mine, tiny_folder)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(FEW - 8)  # what is imported and cached at a first call
    images = (MANY - FEW) * SIDE * SIDE * 3
    assert peak(MANY) - peak(FEW) < images / 4
