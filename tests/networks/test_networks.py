from functools import partial

import pytest
import torch
from ddbench_plugins.networks import (
    bridges,
    convnet,
    dc_zoo,
    densenet,
    gaussian,
    modified_resnet,
    norms,
    resnet,
    widening,
)
from ddbench_plugins.networks.catalog import NETWORKS
from registered import build_network
from torch import nn

from ddbench.errors import UsageError

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

build_resnet_ap = partial(resnet.build, average_pool=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_group_norm_with_one_channel_per_group(dtype, layout):
    fast, reference = norms.InstanceNorm(8), nn.GroupNorm(8, 8)
    with torch.no_grad():
        for p in reference.parameters():
            p.normal_(generator=torch.Generator().manual_seed(1))
        fast.load_state_dict(reference.state_dict())
    x = (torch.randn(3, 8, 6, 6, generator=torch.Generator().manual_seed(2)) * 3 + 5).to(dtype)
    inputs = [x.clone().contiguous(memory_format=layout).requires_grad_() for _ in range(2)]
    weights = torch.arange(x.numel(), dtype=torch.float32).view_as(x).cos()
    for module, value in zip((fast, reference), inputs, strict=True):
        module.to(dtype)
        (module(value) * weights).sum().backward()
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.1}
    torch.testing.assert_close(fast(inputs[0]), reference(inputs[1]), **tolerance)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, **tolerance)
    torch.testing.assert_close(fast.weight.grad, reference.weight.grad, rtol=0.05, atol=0.3)


def test_instance_norm_accepts_single_pixels():
    norm, reference = norms.InstanceNorm(4), nn.GroupNorm(4, 4)
    x = torch.randn(2, 4, 1, 1)
    torch.testing.assert_close(norm(x), reference(x))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_name_builds_and_classifies_what_it_embeds(name):
    size = 64 if NETWORKS[name].options.get("depth", 0) in (5, 6) else 32
    if name in ("modified-resnet-50", "modified-resnet-101"):
        pytest.skip("large; covered by the parameter counts")
    network = build_network(name, in_channels=3, image_size=size, num_classes=7).eval()
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network.embed(x)
        assert features.ndim == 2
        torch.testing.assert_close(network.head(features), network(x))
        assert network(x).shape == (2, 7)


def test_unknown_names_are_refused_with_a_suggestion():
    with pytest.raises(UsageError, match="convnet-3"):
        build_network("convnet-33", in_channels=3, image_size=32, num_classes=2)


def test_grey_28_becomes_32_and_other_grey_sizes_do_not():
    network = convnet.build(in_channels=1, image_size=28, num_classes=10)
    assert network.embed(torch.zeros(1, 1, 28, 28)).shape == (1, 2048)
    digits = convnet.build(in_channels=1, image_size=16, num_classes=10, norm="batch")
    assert digits.embed(torch.zeros(1, 1, 16, 16)).shape == (1, 512)


def test_features_of_a_convnet_are_those_of_distribution_matching():
    network = convnet.build(in_channels=3, image_size=32, num_classes=10)
    torch.testing.assert_close(network.embed(IMAGES), network.features(IMAGES).flatten(1))


@pytest.mark.parametrize(
    ("build", "options", "size", "message"),
    [
        (convnet.build, {"depth": 6}, 32, "at least 64"),
        (convnet.build, {"norm": "spectral"}, 32, "unknown norm"),
        (resnet.build, {"depth": 11}, 32, "no ResNet of depth 11"),
        (build_resnet_ap, {"depth": 11}, 32, "no ResNet of depth 11"),
        (modified_resnet.build, {"depth": 11}, 32, "no ResNet of depth 11"),
        (densenet.build, {}, 4, "at least 8"),
        (gaussian.build, {}, 7, "at least 8"),
        (dc_zoo.build, {"architecture": "lenet"}, 8, "too small"),
        (dc_zoo.build, {"architecture": "vgg11"}, 16, "too small"),
    ],
)
def test_impossible_settings_say_why(build, options, size, message):
    with pytest.raises(ValueError, match=message):
        build(in_channels=3, image_size=size, num_classes=10, **options)


def test_strides_by_size():
    def maps(build, size):
        network = build(in_channels=3, image_size=size, num_classes=2).eval()
        sides = []
        network.maxpool.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
        network.layer4.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
        with torch.no_grad():
            network(torch.zeros(1, 3, size, size))
        return sides

    assert maps(build_resnet_ap, 224) == [56, 7]
    assert maps(build_resnet_ap, 128) == [64, 8]
    assert maps(build_resnet_ap, 64) == [64, 8]
    assert maps(resnet.build, 224) == [56, 7]
    assert maps(modified_resnet.build, 32) == [32, 4]
    assert maps(modified_resnet.build, 64) == [64, 8]
    assert maps(modified_resnet.build, 256) == [64, 8]
    assert maps(modified_resnet.build, 128) == [32, 4]  # torchvision's own stem above 64 pixels


def test_modified_resnet_loads_torchvision_weights():
    models = pytest.importorskip("torchvision.models")
    theirs = models.resnet18(num_classes=10).eval()
    ours = modified_resnet.build(in_channels=3, image_size=224, num_classes=10).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_resnet_initialisation_is_he_fan_out():
    network = build_resnet_ap(in_channels=3, image_size=32, num_classes=10)
    std = network.layer4[0].conv2.weight.std().item()
    assert std == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)


def test_timm_bridge():
    pytest.importorskip("timm")
    network = build_network("timm:resnet18", in_channels=3, image_size=32, num_classes=5).eval()
    with torch.no_grad():
        assert network.embed(IMAGES).shape == (2, 512)
        assert network(IMAGES).shape == (2, 5)
    with pytest.raises(ValueError, match="no model"):
        bridges.build_timm(in_channels=3, image_size=32, num_classes=5, name="resnet-eighteen")


def test_torchvision_bridge_refuses_grey_images():
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match="RGB"):
        build_network("torchvision:mobilenet_v2", in_channels=1, image_size=32, num_classes=5)


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        (28, [16, 8, 4, 2]),
        (32, [16, 8, 4, 2]),
        (64, [32, 16, 8, 4]),
        (128, [64, 32, 16, 8, 4, 2]),
        (224, [112, 56, 28, 14, 7, 3]),
    ],
)
def test_every_block_of_a_convnet_halves_the_side(size, sides):
    channels = 1 if size == 28 else 3
    network = convnet.build(in_channels=channels, image_size=size, num_classes=2, depth=len(sides), width=2)
    found = []
    for module in network.features:
        if isinstance(module, nn.AvgPool2d):
            module.register_forward_hook(lambda _m, _i, out: found.append(out.shape[-1]))
    network(torch.zeros(1, channels, size, size))
    assert found == sides


def test_efficientnet_is_that_of_efficientnet_pytorch():
    network = build_network("efficientnet-b0", in_channels=3, image_size=32, num_classes=10)
    norms_found = {(m.eps, m.momentum) for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms_found == {(1e-3, 0.01)}
    drops = [m.drop_prob for m in network.modules() if type(m).__name__ == "DropPath"]
    assert drops[-1] == pytest.approx(0.2 * 15 / 16)
    stem = network.body.conv_stem.weight  # PyTorch's default: uniform within ±1/√27, not normal
    assert stem.abs().max() <= 27**-0.5


def test_dc_variants_are_the_axes_of_its_evaluation_pools():
    assert NETWORKS["convnet-3-swish-bn"].options == {"depth": 3, "activation": "swish", "norm": "batch"}
    for suffix in ("", "-bn", "-ln", "-gn", "-nn", "-np", "-mp", "-sigmoid", "-leaky-relu", "-swish"):
        assert f"convnet-3{suffix}" in NETWORKS


@pytest.mark.parametrize("prepended", [False, True])
def test_the_convnets_of_kip_and_rfad_begin_as_their_kernels_do(prepended):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = gaussian.build(in_channels=3, image_size=32, num_classes=10, width=128, prepended=prepended)
    kinds = [type(layer).__name__ for layer in network.features]
    assert kinds == ["Conv2d", "ReLU"] * prepended + ["Conv2d", "ReLU", "AvgPool2d"] * 3
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        assert float(layer.weight.detach().var()) == pytest.approx(2 / layer.weight[0].numel(), rel=0.1)
    biases = torch.cat([layer.bias.detach() for layer in layers])
    assert float(biases.var()) == pytest.approx(0.01, rel=0.2)
    assert float(biases.mean().abs()) < 0.02
    assert network.embed(IMAGES).shape == (2, 128 * 4 * 4)
    # 28 pixels are not padded: RFAD's features are then 9 numbers per channel.
    grey = gaussian.build(in_channels=1, image_size=28, num_classes=10, width=256, prepended=prepended)
    assert grey.embed(torch.zeros(1, 1, 28, 28)).shape == (1, 2304)


def test_the_convnet_of_frepo_begins_as_flax_does():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = widening.build(in_channels=3, image_size=32, num_classes=10, norm="batch")
    kinds = [type(layer).__name__ for layer in network.features]
    block = ["Conv2d", "ReLU", "AvgPool2d"]
    assert kinds == [*block, "BatchNorm2d", *block, "BatchNorm2d", *block]
    weight = network.features[4].weight
    assert float(weight.var()) == pytest.approx(1 / (9 * 128), rel=0.02)
    assert float(weight.abs().max()) <= 2 / 0.8796 / (9 * 128) ** 0.5
    assert not network.features[4].bias.any()
    assert network.embed(IMAGES).shape == (2, 8192)
