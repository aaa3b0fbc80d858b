"""Parameter counts of every network against the official classes (instantiated from the released code)."""

from functools import partial

import pytest
import torch
from ddbench_plugins.networks import bridges, convnet, dc_zoo, densenet, gaussian, modified_resnet, resnet, widening
from ddbench_plugins.training.optimisers import split_decay
from registered import build_network

build_resnet_ap = partial(resnet.build, average_pool=True)


def count_parameters(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count(build, channels, size, classes, **options):
    with torch.device("meta"):
        return count_parameters(build(in_channels=channels, image_size=size, num_classes=classes, **options))


@pytest.mark.parametrize(
    ("depth", "channels", "size", "classes", "expected"),
    [
        (3, 1, 28, 10, 317_706),
        (3, 3, 32, 10, 320_010),
        (3, 3, 32, 100, 504_420),
        (1, 3, 32, 10, 331_530),
        (2, 3, 32, 10, 233_610),
        (4, 3, 32, 10, 452_490),
        (1, 3, 32, 100, 3_280_740),
        (2, 3, 32, 100, 970_980),
        (4, 3, 32, 100, 498_660),
        (1, 1, 28, 10, 329_226),
        (2, 1, 28, 10, 231_306),
        (4, 1, 28, 10, 450_186),
        (3, 3, 64, 200, 1_938_120),
        (4, 3, 64, 200, 857_160),
        (5, 3, 128, 10, 615_690),
        (6, 3, 128, 100, 794_340),
        (5, 3, 128, 100, 800_100),
        (6, 3, 128, 10, 748_170),
        (5, 3, 224, 10, 657_930),
        (6, 3, 224, 10, 754_570),
        (6, 3, 224, 100, 858_340),
        (5, 3, 224, 100, 1_222_500),
        (4, 3, 224, 10, 698_250),
        (4, 3, 224, 100, 2_956_260),
        (3, 3, 224, 10, 1_303_050),
        (3, 3, 224, 100, 10_334_820),
        (5, 3, 256, 10, 677_130),
        (6, 3, 256, 10, 763_530),
        (4, 3, 224, 1000, 25_536_360),
    ],
)
@pytest.mark.parametrize("norm", ["instance", "batch", "group"])
def test_convnet(depth, channels, size, classes, expected, norm):
    assert count(convnet.build, channels, size, classes, depth=depth, norm=norm) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"width": 32}, 24_714),
        ({"width": 64}, 86_282),
        ({"width": 256}, 1_229_834),
        ({"norm": "layer"}, 663_306),
        ({"norm": "none"}, 319_242),
        ({"pooling": "none"}, 1_610_250),
    ],
)
def test_convnet_variants(options, expected):
    assert count(convnet.build, 3, 32, 10, **options) == expected


@pytest.mark.parametrize("build", [resnet.build, build_resnet_ap])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(
    ("depth", "size", "classes", "expected"),
    [
        (10, 224, 10, 4_910_922),
        (10, 224, 100, 4_957_092),
        (10, 224, 1000, 5_418_792),
        (18, 224, 10, 11_181_642),
        (18, 224, 100, 11_227_812),
        (18, 224, 1000, 11_689_512),
        (50, 224, 10, 23_528_522),
        (50, 224, 100, 23_712_932),
        (50, 224, 1000, 25_557_032),
        (10, 128, 10, 4_903_242),
        (10, 64, 10, 4_903_242),
        (18, 128, 10, 11_173_962),
        (18, 64, 10, 11_173_962),
    ],
)
def test_resnets(build, norm, depth, size, classes, expected):
    assert count(build, 3, size, classes, depth=depth, norm=norm) == expected


@pytest.mark.parametrize("build", [resnet.build, build_resnet_ap])
@pytest.mark.parametrize(
    ("depth", "classes", "expected"),
    [(10, 10, 1_228_970), (18, 10, 2_797_610), (10, 100, 1_252_100), (18, 100, 2_820_740)],
)
def test_narrow_resnets_of_cifar(build, depth, classes, expected):
    assert count(build, 3, 32, classes, depth=depth, norm="batch", narrow=True) == expected


def test_resnet_10_small_sets():
    assert count(resnet.build, 1, 28, 10) == 4_902_090
    assert count(resnet.build, 3, 32, 10) == 4_903_242


def test_densenet():
    assert count(densenet.build, 3, 32, 10) == 1_000_618
    assert count(densenet.build, 3, 32, 100) == 1_035_268


@pytest.mark.parametrize(
    ("architecture", "norm", "counts"),
    [
        ("mlp", None, (118_282, 411_146, 422_756)),
        ("lenet", None, (61_706, 62_006, 69_656)),
        ("alexnet", None, (1_865_802, 1_872_202, 2_148_772)),
        ("alexnet", "batch", (1_867_722, 1_874_122, 2_150_692)),
        ("vgg11", None, (9_229_962, 9_231_114, 9_277_284)),
        ("vgg11", "batch", (9_229_962, 9_231_114, 9_277_284)),
        ("resnet18", None, (11_172_810, 11_173_962, 11_220_132)),
        ("resnet18", "batch", (11_172_810, 11_173_962, 11_220_132)),
        ("resnet18-ap", None, (11_213_770, 11_250_762, 11_988_132)),
    ],
)
def test_dc_zoo(architecture, norm, counts):
    settings = [(1, 28, 10), (3, 32, 10), (3, 32, 100)]
    for (channels, size, classes), expected in zip(settings, counts, strict=True):
        network = dc_zoo.build(
            in_channels=channels, image_size=size, num_classes=classes, architecture=architecture, norm=norm
        )
        assert count_parameters(network) == expected
        assert network(torch.zeros(2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize(
    ("depth", "size", "classes", "expected"),
    [
        (18, 32, 10, 11_173_962),
        (18, 32, 100, 11_220_132),
        (18, 64, 200, 11_271_432),
        (101, 32, 10, 42_512_970),
        (101, 64, 200, 42_902_280),
        (18, 224, 10, 11_181_642),
        (18, 224, 100, 11_227_812),
        (18, 224, 1000, 11_689_512),
        (50, 224, 1000, 25_557_032),
        (101, 224, 1000, 44_549_160),
    ],
)
def test_modified_resnet(depth, size, classes, expected):
    assert count(modified_resnet.build, 3, size, classes, depth=depth) == expected


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("mobilenet_v2", 10, 2_236_682),
        ("mobilenet_v2", 1000, 3_504_872),
        ("efficientnet_b0", 10, 4_020_358),
        ("efficientnet_b0", 100, 4_135_648),
        ("efficientnet_b0", 1000, 5_288_548),
        ("vgg11", 10, 128_807_306),
        ("vgg11", 1000, 132_863_336),
        ("alexnet", 1000, 61_100_840),
        ("vit_b_16", 10, 85_806_346),
        ("vit_b_16", 1000, 86_567_656),
        ("swin_v2_t", 10, 27_590_260),
        ("swin_v2_t", 1000, 28_351_570),
    ],
)
def test_torchvision_students(name, classes, expected):
    pytest.importorskip("torchvision")
    assert count(bridges.build_torchvision, 3, 224, classes, name=name) == expected


def test_decayed_parameters_of_rded():
    def sizes(build, **options):
        with torch.device("meta"):
            groups = split_decay(build(in_channels=3, image_size=32, num_classes=10, **options))
        return tuple(sum(p.numel() for p in group) for group in groups)

    assert sizes(modified_resnet.build) == (11_164_352, 9_610)
    assert sizes(convnet.build, norm="batch") == (318_848, 1_162)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convnet-3-w32", 24_714),
        ("convnet-3-w64", 86_282),
        ("convnet-3-w256", 1_229_834),
        ("convnet-3-ln", 663_306),
        ("convnet-3-nn", 319_242),
        ("convnet-3-np", 1_610_250),
        *((f"convnet-3-{suffix}", 320_010) for suffix in ("mp", "sigmoid", "leaky-relu", "swish", "swish-bn")),
        ("resnet-10-narrow", 1_228_970),
        ("resnet-ap-18-bn-narrow", 2_797_610),
        ("efficientnet-b0", 4_020_358),
        ("vit-small", 809_354),
        ("convnext-small", 1_629_002),
        ("swin-small", 1_267_670),
    ],
)
def test_names(name, expected):
    assert count(lambda **settings: build_network(name, **settings), 3, 32, 10) == expected


def test_efficientnet():
    assert count(lambda **settings: build_network("efficientnet-b0", **settings), 3, 224, 100) == 4_135_648


def test_resnet_18_of_dc_at_64_pixels():
    """DD-Ranking's ResNet-18-BN with use_torchvision=false on Tiny-ImageNet."""
    assert count(dc_zoo.build, 3, 64, 200, architecture="resnet18", norm="batch") == 11_271_432


def blocks_of(features):
    """Parameters of each block of a ConvNet: a convolution and the layers up to the next."""
    sizes = []
    for module in features:
        if isinstance(module, torch.nn.Conv2d):
            sizes.append(0)
        sizes[-1] += count_parameters(module)
    return sizes


def test_layers_of_convnets():
    with torch.device("meta"):
        three = convnet.build(in_channels=3, image_size=32, num_classes=10)
        six = convnet.build(in_channels=3, image_size=224, num_classes=10, depth=6)
        grey = convnet.build(in_channels=1, image_size=28, num_classes=10)
    layers = [count_parameters(layer) for layer in three.features]
    assert [size for size in layers if size] == [3_584, 256, 147_584, 256, 147_584, 256]
    assert count_parameters(three.head) == 20_490
    assert blocks_of(six.features) == [3_840, *[147_840] * 5]
    assert sum(blocks_of(six.features)[1:]) == 739_200
    assert count_parameters(six.head) == 11_530
    assert blocks_of(grey.features)[0] == 1_536


def stages_of(network):
    stem = count_parameters(network.conv1) + count_parameters(network.bn1)
    return [stem, *(count_parameters(getattr(network, f"layer{n}")) for n in range(1, 5)), count_parameters(network.fc)]


def test_layers_of_resnets():
    with torch.device("meta"):
        ap = build_resnet_ap(in_channels=3, image_size=224, num_classes=10)
        standard = modified_resnet.build(in_channels=3, image_size=224, num_classes=10)
        modified = modified_resnet.build(in_channels=3, image_size=32, num_classes=10)
    assert (count_parameters(ap.conv1), count_parameters(ap.bn1)) == (9_408, 128)
    assert stages_of(ap) == [9_536, 73_984, 230_144, 919_040, 3_673_088, 5_130]
    body = [147_968, 525_568, 2_099_712, 8_393_728, 513 * 10]
    assert stages_of(standard) == [9_536, *body]
    assert stages_of(modified) == [1_856, *body]


def test_channels_of_densenet():
    with torch.device("meta"):
        network = densenet.build(in_channels=3, image_size=32, num_classes=10)
    found = [network.features[0].out_channels]
    for module in network.features:
        if isinstance(module, densenet.Transition):
            found += [module[2].in_channels, module[2].out_channels]
    assert [*found, network.head.in_features] == [24, 96, 48, 192, 96, 384, 192, 384]


@pytest.mark.parametrize(
    ("norm", "channels", "size", "expected"),
    [("none", 3, 32, 1_560_842), ("batch", 3, 32, 1_560_842 + 2 * (128 + 256)), ("none", 1, 28, 1_558_538)],
)
def test_the_convnet_of_frepo(norm, channels, size, expected):
    assert count(widening.build, channels, size, 10, norm=norm) == expected


@pytest.mark.parametrize(("prepended", "expected"), [(False, 19_068_938), (True, 28_507_146)])
def test_the_convnets_of_kip_and_rfad(prepended, expected):
    """27·1024 + 9·1024² of every further convolution + 16,384·10, and a bias per output."""
    assert count(gaussian.build, 3, 32, 10, prepended=prepended) == expected
