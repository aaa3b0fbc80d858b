"""What is sent to a device arrives as it was; without one, the packing is what can be tested."""

from __future__ import annotations

import pytest
import torch
from ddbench_plugins.networks import convnet
from ddbench_plugins.training import transfer


@pytest.fixture
def packing(monkeypatch):
    """A pretended device: sending is noted, and leaves tensors where they are."""
    sent = []

    def note(tensor, device):
        sent.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(transfer, "sent", note)
    return sent


def test_on_a_cpu_tensors_are_handed_through():
    one = torch.arange(3)
    assert transfer.sent(one, "cpu") is one
    assert transfer.sent_together([one], "cpu")[0] is one
    assert transfer.fetched(one)[0] is one
    network = torch.nn.Linear(2, 2)
    assert transfer.network_sent(network, "cpu") is network


def test_small_tensors_of_one_type_go_in_one_copy(packing):
    given = [torch.rand(2, 3), torch.arange(4), torch.rand(()), torch.rand(5) < 0.5]
    moved = transfer.sent_together(given, "cuda")
    assert len(packing) == 3
    for mine, theirs in zip(moved, given, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape and torch.equal(mine, theirs)


def test_a_network_goes_in_one_copy_per_type_and_keeps_its_layout(packing):
    network = convnet.build(in_channels=3, image_size=8, num_classes=4, width=6, depth=2, norm="batch")
    network = network.to(memory_format=torch.channels_last)
    kept = {name: value.clone(memory_format=torch.preserve_format) for name, value in network.state_dict().items()}
    assert transfer.network_sent(network, "cuda") is network
    assert sorted(str(buffer.dtype) for buffer in packing) == ["torch.float32", "torch.int64"]
    starts = []
    for name, value in network.state_dict().items():
        assert torch.equal(value, kept[name]) and value.stride() == kept[name].stride()
        starts.append(value.storage_offset() * value.itemsize)
    assert all(start % transfer.ALIGNMENT == 0 for start in starts)
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
