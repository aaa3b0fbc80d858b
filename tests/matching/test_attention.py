"""Gradients of gradients of networks with attention, whose fused operators have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
from ddbench_plugins.training.unroll import Unroll  # noqa: E402

METHODS = {
    "dc": {"iterations": 1, "outer": 1, "batch_real": 2},
    "idc-1": {"iterations": 1, "inner": 1, "batch_real": 2, "train_images": 0},
    "mtt": {"iterations": 1, "experts": 1, "expert_epochs": 1, "max_start_epoch": 1, "syn_steps": 2, "lr_img": 10.0},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_small_transformer_is_matched(ctx, method):
    options = METHODS[method] | {"network": "vit-small"}
    mine = replace(ctx, _dataset=toy_dataset(channels=3), explicit={"method": options})
    images = distil(prepare_method(mine, method, 1, 0)).content.images
    assert np.isfinite(images).all() and len(images) == 3


def test_steps_of_attention_are_differentiated():
    x, start = torch.randn(3, 1, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).split([2, 1])

    def loss(number, at, learned):
        query = learned[0] * at.view(1, 1, 4, 2)
        return torch.nn.functional.scaled_dot_product_attention(query, query, learned[0]).square().sum()

    def end(values):
        return float(Unroll(loss, start.flatten(), [values], torch.tensor([0.1, 0.1])).end.sum())

    unroll = Unroll(loss, start.flatten(), [x], torch.tensor([0.1, 0.1]))
    found = unroll.gradients(torch.ones_like(unroll.end)).learned[0]
    step = torch.zeros_like(x)
    step[1, 0, 2, 1] = 1e-5
    assert float(found[1, 0, 2, 1]) == pytest.approx((end(x + step) - end(x - step)) / 2e-5, rel=1e-6)
