import pytest
import torch
from ddbench_plugins.training import dsa
from ddbench_plugins.training.dsa import STRATEGY, STRATEGY_DD_RANKING, STRATEGY_WITHOUT_FLIP, apply, draw


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randn(8, 3, 32, 32, generator=generator())


@pytest.mark.parametrize("operator", STRATEGY)
def test_siamese_parameters_change_every_image_alike(operator):
    same = IMAGES[:1].expand(5, 3, 32, 32)
    drawn = (draw(operator, 1, 32, generator(3)),)
    out = apply(same, drawn)
    torch.testing.assert_close(out, out[:1].expand_as(out))
    torch.testing.assert_close(apply(IMAGES[:1], drawn), out[:1])  # the same parameters for another batch


@pytest.mark.parametrize("operator", STRATEGY)
def test_parameters_per_image_differ(operator):
    same = IMAGES[:1].expand(16, 3, 32, 32)
    assert apply(same, (draw(operator, 16, 32, generator()),)).flatten(1).unique(dim=0).shape[0] > 1


@pytest.mark.parametrize("operator", STRATEGY)
def test_gradients_flow(operator):
    x = IMAGES.clone().requires_grad_()
    apply(x, (draw(operator, 8, 32, generator()),)).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize(("size", "reach"), [(28, 4), (32, 4), (64, 8)])
def test_crop_reach(size, reach):
    shifts = torch.cat(draw("crop", 2000, size, generator()).values)
    assert (shifts.min(), shifts.max()) == (-reach, reach)


@pytest.mark.parametrize(("size", "side"), [(28, 14), (32, 16), (64, 32)])
def test_cutout_is_a_square_that_the_border_may_cut(size, side):
    drawn = draw("cutout", 3000, size, generator())
    assert max(v.max() for v in drawn.values) == size
    out = apply(torch.ones(3000, 1, size, size), (drawn,))
    areas = (out == 0).sum((1, 2, 3))
    assert areas.max() == side**2
    assert areas.min() == (side // 2) ** 2


def test_color_by_hand():
    x = torch.randn(1, 3, 4, 4, generator=generator())
    brightness, saturation, contrast = (float(v) for v in draw("color", 1, 4, generator(2)).values)
    assert -0.5 <= brightness <= 0.5 and 0 <= saturation <= 2 and 0.5 <= contrast <= 1.5
    y = x + brightness
    y = (y - y.mean(1, keepdim=True)) * saturation + y.mean(1, keepdim=True)
    y = (y - y.mean()) * contrast + y.mean()
    torch.testing.assert_close(apply(x, (draw("color", 1, 4, generator(2)),)), y, rtol=1e-4, atol=1e-5)


def test_scale_and_rotation_keep_the_centre_and_fill_with_zeros():
    x = torch.ones(50, 1, 33, 33)
    for operator in ("scale", "rotate"):
        out = apply(x, (draw(operator, 50, 33, generator()),))
        torch.testing.assert_close(out[:, :, 16, 16], torch.ones(50, 1))
        assert out.min() == 0


def test_dc_draws_one_operator_of_its_strategy():
    draws = generator()
    for strategy in (STRATEGY, STRATEGY_WITHOUT_FLIP, STRATEGY_DD_RANKING):
        seen = [dsa.draw_dc(4, 32, draws, strategy) for _ in range(200)]
        assert all(len(drawn) == 1 for drawn in seen)
        assert {drawn[0].operator for drawn in seen} == set(strategy)


def test_idc_flips_and_recolours_always():
    draws = generator()
    seen = [[d.operator for d in dsa.draw_idc(4, 32, draws)] for _ in range(100)]
    assert all(names[:2] == ["flip", "color"] and names[3:] == ["cutout"] for names in seen)
    assert {names[2] for names in seen} == {"crop", "scale", "rotate"}
    assert [d.operator for d in dsa.draw_idc(4, 32, draws, ("color", "crop"))] == ["color", "crop"]


def test_augmentation_is_reproducible():
    for variant in ("dc", "idc"):
        chain = dsa.dsa(variant)
        assert torch.equal(chain(IMAGES, generator(4)), chain(IMAGES, generator(4)))
        assert chain(IMAGES, generator(4)).shape == IMAGES.shape
