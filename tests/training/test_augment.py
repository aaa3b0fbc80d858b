import math

import pytest
import torch
from ddbench_plugins.training import augment
from ddbench_plugins.training.augment import (
    compose,
    draw_resized_crops,
    jitter_colours,
    normalise,
    patch_shuffle,
    pca_lighting,
    random_crop,
    random_flip,
    random_resized_crop,
    resize_weights,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(batch, channels, height, width):
    return torch.arange(batch * channels * height * width, dtype=torch.float32).view(batch, channels, height, width)


def test_normalise():
    x = torch.rand(2, 3, 4, 4, generator=generator())
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    expected = (x - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(normalise(mean.tolist(), std.tolist())(x, generator()), expected)


def test_flip_mirrors_about_half_of_the_images():
    x = numbered(400, 1, 2, 4)
    out = random_flip(x, generator())
    flipped = (out == x.flip(-1)).all((1, 2, 3))
    assert ((out == x).all((1, 2, 3)) | flipped).all()
    assert 0.4 < flipped.float().mean() < 0.6


def test_random_crop_shifts_each_image_and_fills_with_zeros():
    x = numbered(200, 2, 8, 8) + 1
    out = random_crop(x, generator(), padding=3)
    padded = torch.nn.functional.pad(x, (3, 3, 3, 3))
    windows = {(i, j): padded[:, :, i : i + 8, j : j + 8] for i in range(7) for j in range(7)}
    places = [next(k for k, w in windows.items() if torch.equal(w[b], out[b])) for b in range(200)]
    assert {i for i, _ in places} == set(range(7)) == {j for _, j in places}


def test_patch_shuffle_with_two_strips_reaches_four_layouts():
    x = numbered(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(300, 1, 8, 8)
    layouts = {tuple(image[0, ::4, ::4].flatten().tolist()) for image in patch_shuffle(x, generator(), 2)}
    assert layouts == {(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0)}


def test_patch_shuffle_of_one_strip_is_the_identity():
    x = numbered(2, 3, 5, 5)
    assert patch_shuffle(x, generator(), 1) is x


@given(side=st.integers(3, 17), factor=st.integers(2, 3), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_patch_shuffle_only_moves_whole_strips(side, factor, seed):
    x = numbered(2, 1, side, side)
    out = patch_shuffle(x, generator(seed), factor)
    assert torch.equal(out.flatten(1).sort(1).values, x.flatten(1).sort(1).values)
    columns = (out[0, 0, 0].long() % side).tolist()
    width = side // factor
    strips = [list(range(i * width, side if i == factor - 1 else (i + 1) * width)) for i in range(factor)]
    remaining = columns
    while remaining:  # the row of columns must fall apart into the strips
        strip = next(s for s in strips if remaining[: len(s)] == s)
        strips.remove(strip)
        remaining = remaining[len(strip) :]
    assert not strips


@pytest.mark.parametrize("side", [32, 64, 128, 224])
def test_resized_crop_of_the_whole_area_is_the_identity(side):
    x = torch.rand(1, 1, side, side)
    assert random_resized_crop(x, generator(), side, (1.0, 1.0)) is x
    top, left, height, width = draw_resized_crops(5000, side, side, generator(), (1.0, 1.0), (3 / 4, 4 / 3))
    assert (top == 0).all() and (left == 0).all() and (height == side).all() and (width == side).all()


@pytest.mark.parametrize(("side", "crop", "size"), [(32, 20, 32), (32, 32, 32), (40, 33, 24), (64, 60, 16), (9, 1, 5)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resize_weights_follow_torch_interpolate(side, crop, size, antialias):
    line = torch.rand(1, 1, 1, side, generator=generator())
    start = (side - crop) // 2
    weights = resize_weights(torch.tensor([start]), torch.tensor([crop]), side, size, antialias)
    expected = torch.nn.functional.interpolate(
        line[..., start : start + crop], (1, size), mode="bilinear", antialias=antialias, align_corners=False
    )
    torch.testing.assert_close(line[0, 0] @ weights[0].T, expected[0, 0], rtol=1e-4, atol=1e-5)


def test_resized_crop_follows_torchvision_for_the_same_boxes():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    x = torch.rand(6, 3, 40, 40, generator=generator())
    boxes = draw_resized_crops(6, 40, 40, generator(3), (0.08, 1.0), (3 / 4, 4 / 3))
    out = random_resized_crop(x, generator(3), 32)
    for index, (top, left, height, width) in enumerate(zip(*boxes, strict=True)):
        expected = functional.resized_crop(x[index], int(top), int(left), int(height), int(width), [32, 32])
        torch.testing.assert_close(out[index], expected, rtol=1e-3, atol=1e-4)


@given(
    height=st.integers(4, 80),
    width=st.integers(4, 80),
    low=st.floats(0.05, 0.9),
    seed=st.integers(0, 100),
)
@settings(max_examples=40)
def test_crops_lie_inside_the_image(height, width, low, seed):
    top, left, h, w = draw_resized_crops(50, height, width, generator(seed), (low, 1.0), (3 / 4, 4 / 3))
    assert (top >= 0).all() and (left >= 0).all() and (h > 0).all() and (w > 0).all()
    assert (top + h <= height).all() and (left + w <= width).all()


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10)), (30, 100, (0, 30, 30, 40))],
)
def test_a_crop_that_cannot_be_drawn_is_the_largest_in_the_centre(height, width, box):
    """torchvision's last resort: sides of at most 4 : 3, as large as fits."""
    found = draw_resized_crops(3, height, width, generator(), (1.0, 1.0), (3 / 4, 4 / 3))
    assert [side.tolist() for side in found] == [[side] * 3 for side in box]


def test_a_crop_may_be_a_single_pixel():
    _, _, height, width = draw_resized_crops(5, 4, 4, generator(), (1 / 16, 1 / 16), (1.0, 1.0))
    assert height.tolist() == width.tolist() == [1] * 5


def test_crop_areas_spread_like_torchvisions():
    transforms = pytest.importorskip("torchvision.transforms")
    _, _, h, w = draw_resized_crops(4000, 100, 100, generator(), (0.5, 1.0), (3 / 4, 4 / 3))
    torch.manual_seed(0)
    image = torch.empty(1, 100, 100)
    theirs = [transforms.RandomResizedCrop.get_params(image, [0.5, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(4000)]
    areas = torch.tensor([float(a * b) for a, b in theirs])
    assert (h * w).float().mean() == pytest.approx(areas.mean().item(), rel=0.02)
    assert (h * w).float().std() == pytest.approx(areas.std().item(), rel=0.08)


def test_jitter_changes_each_image_in_its_own_way_and_order():
    x = torch.rand(1, 3, 6, 6, generator=generator()).expand(64, 3, 6, 6)
    out = jitter_colours(x, generator())
    assert out.flatten(1).unique(dim=0).shape[0] == 64
    torch.testing.assert_close(jitter_colours(x, generator(), strength=0.0), x)


def test_jitter_of_a_grey_flat_image_is_a_change_of_brightness_only():
    x = torch.full((500, 3, 4, 4), 0.5)
    out = jitter_colours(x, generator())
    torch.testing.assert_close(out, out[:, :1, :1, :1].expand_as(out), rtol=1e-3, atol=1e-3)
    assert 0.6 * 0.5 - 1e-3 <= out.min() < 0.32 and 0.68 < out.max() <= 1.4 * 0.5 + 1e-3


def test_jitter_is_brightness_contrast_and_saturation_in_the_drawn_order():
    x = torch.rand(20, 3, 5, 5, generator=generator())
    out, draws = jitter_colours(x, generator(4), strength=0.4), generator(4)
    orders = torch.rand(20, 3, generator=draws).argsort(1).tolist()
    amounts = (torch.rand(20, 3, generator=draws) * 0.8 - 0.4).tolist()
    assert len(set(map(tuple, orders))) == 6
    for image, order, amount, found in zip(x, orders, amounts, out, strict=True):
        for kind, a in zip(order, amount, strict=True):
            grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
            image = (1 - a) * image + a * (torch.zeros(()), grey.mean(), grey)[kind]
        torch.testing.assert_close(found, image)


def test_lighting_has_the_directions_of_imagenets_colours():
    """Eigenvectors are orthogonal, and the strongest is brightness: of equal signs in all channels."""
    vectors = torch.tensor(augment._PCA_VECTORS)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3), rtol=0, atol=2e-3)
    assert (vectors[:, 0] < -0.5).all() and augment._PCA_VALUES == (0.2175, 0.0188, 0.0045)
    alpha = torch.randn(4, 3, generator=generator(2)) * 0.1
    expected = (alpha[:, None] * vectors * torch.tensor([0.2175, 0.0188, 0.0045])).sum(2)
    shift = pca_lighting(torch.zeros(4, 3, 2, 2), generator(2))
    torch.testing.assert_close(shift, expected[:, :, None, None].expand(4, 3, 2, 2))


def test_a_resized_crop_has_the_defaults_of_torchvision():
    transforms = pytest.importorskip("torchvision.transforms.v2")
    theirs = transforms.RandomResizedCrop(8)
    x = torch.rand(30, 3, 24, 24, generator=generator())
    same = random_resized_crop(x, generator(5), 8, theirs.scale, theirs.ratio, theirs.antialias)
    assert torch.equal(random_resized_crop(x, generator(5), 8), same)


def test_lighting_adds_one_colour_per_image():
    x = torch.rand(300, 3, 4, 4, generator=generator())
    shift = pca_lighting(x, generator()) - x
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift), rtol=1e-3, atol=1e-4)
    expected = torch.tensor(augment._PCA_VECTORS) * torch.tensor(augment._PCA_VALUES) * 0.1
    assert torch.allclose(shift[:, :, 0, 0].std(0), expected.pow(2).sum(1).sqrt(), rtol=0.15)


def test_operations_are_reproducible_and_leave_their_input_alone():
    chain = compose(
        jitter_colours,
        pca_lighting,
        lambda x, g: random_resized_crop(x, g, 8, (0.5, 1.0)),
        lambda x, g: patch_shuffle(x, g, 2),
        random_crop,
        random_flip,
    )
    x = torch.rand(5, 3, 8, 8, generator=generator())
    before = x.clone()
    assert torch.equal(chain(x, generator(7)), chain(x, generator(7)))
    assert not torch.equal(chain(x, generator(7)), chain(x, generator(8)))
    assert torch.equal(x, before)
    assert math.isfinite(chain(x, generator(9)).sum().item())
