"""Networks arrive on a device as they were."""

from __future__ import annotations

import torch
from ddbench_plugins.networks import convnet
from ddbench_plugins.training import transfer
from pretended_gpu import pretended


def test_on_a_cpu_nothing_is_copied():
    network, one = torch.nn.Linear(2, 2), torch.arange(3)
    weight = network.weight
    assert transfer.network_moved(network, "cpu") is network and network.weight is weight
    assert transfer.fetched(one)[0] is one


def test_a_network_goes_in_one_copy_and_keeps_its_layout():
    network = convnet.build(in_channels=3, image_size=8, num_classes=4, width=6, depth=2, norm="batch")
    network = network.to(memory_format=torch.channels_last)
    kept = {name: value.clone(memory_format=torch.preserve_format) for name, value in network.state_dict().items()}
    with pretended() as gpu:
        assert transfer.network_moved(network, "cuda") is network
        assert gpu.kernels["copy"] == 1 and not gpu.waits
        assert all(tensor.is_cuda for tensor in (*network.parameters(), *network.buffers()))
        for name, value in network.state_dict().items():
            assert value.stride() == kept[name].stride() and value.storage_offset() * value.itemsize % 16 == 0
            assert torch.equal(value.cpu(), kept[name])
        network(torch.rand(2, 3, 8, 8).to("cuda")).sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_network_takes_over_the_weights_of_another_in_one_copy_and_stays_where_it_is():
    one, other = (
        convnet.build(in_channels=3, image_size=8, num_classes=4, width=6, depth=2, norm="batch") for _ in range(2)
    )
    one, other = (network.to(memory_format=torch.channels_last) for network in (one, other))
    other(torch.rand(2, 3, 8, 8))  # statistics of batch norms too
    with pretended() as gpu:
        transfer.network_moved(one, "cuda")
        places, copies = {name: id(value) for name, value in one.named_parameters()}, gpu.kernels["copy"]
        transfer.take_over(one, other)
        assert gpu.kernels["copy"] == copies + 1 and not gpu.waits
        assert places == {name: id(value) for name, value in one.named_parameters()}
        for name, value in other.state_dict().items():
            assert torch.equal(one.state_dict()[name].cpu(), value)


def test_several_tensors_are_fetched_while_waiting_once():
    given = [torch.rand(2), torch.arange(3)]
    with pretended() as gpu:
        there = [tensor.to("cuda") for tensor in given]
        found = transfer.fetched(*there)
        assert sum("synchronize" in line for line in gpu.waits) == 1
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, given, strict=True))
