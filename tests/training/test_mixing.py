import pytest
import torch
from ddbench_plugins.training.mixing import cutmix, draw_beta, draw_cutmix_box, mixup


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("side", "expected"), [(32, 0.30), (224, 0.32)])
def test_mean_area_of_cutmix(side, expected):
    draws = generator()
    boxes = [draw_cutmix_box(side, side, draws) for _ in range(20_000)]
    areas = [(bottom - top) * (right - left) / side**2 for top, bottom, left, right in boxes]
    assert sum(areas) / len(areas) == pytest.approx(expected, abs=0.01)


def test_boxes_lie_inside_the_image_and_have_even_sides_unless_clipped():
    draws = generator(1)
    for _ in range(2000):
        top, bottom, left, right = draw_cutmix_box(16, 24, draws)
        assert 0 <= top <= bottom <= 16 and 0 <= left <= right <= 24
        if top > 0 and bottom < 16:
            assert (bottom - top) % 2 == 0


def test_cutmix_pastes_its_partner_and_reports_the_pasted_share():
    x = torch.arange(6.0)[:, None, None, None].expand(6, 3, 16, 16).clone()
    before = x.clone()
    for seed in range(20):
        mixed = cutmix(x, generator(seed))
        own = (mixed.images == x).all(1)
        partner = mixed.images == mixed.partners.float()[:, None, None, None]
        assert (own | partner.all(1)).all()
        moved = mixed.partners != torch.arange(6)
        if moved.any():
            assert own[moved].float().mean((1, 2)).allclose(mixed.ratio.float(), atol=1e-6)
    assert torch.equal(x, before)


def test_mixup_is_a_weighted_mean_with_a_permutation():
    x = torch.rand(5, 1, 4, 4, generator=generator())
    mixed = mixup(x, generator(3), 0.8)
    torch.testing.assert_close(mixed.images, mixed.ratio * x + (1 - mixed.ratio) * x[mixed.partners])
    assert sorted(mixed.partners.tolist()) == list(range(5))


@pytest.mark.parametrize("beta", [1.0, 0.8, 0.3])
def test_beta_has_its_mean_and_variance(beta):
    draws = generator(5)
    values = torch.tensor([draw_beta(beta, draws) for _ in range(6000)])
    assert values.mean() == pytest.approx(0.5, abs=0.02)
    assert values.var() == pytest.approx(1 / (4 * (2 * beta + 1)), rel=0.06)


@pytest.mark.parametrize("beta", [0.3, 0.8, 2.0])
def test_beta_is_the_share_of_the_first_of_two_powers_that_sum_to_at_most_one(beta):
    for seed in range(30):
        draws, value = generator(seed), None
        while value is None:
            u, v = (torch.rand(2, generator=draws, dtype=torch.float64) ** (1 / beta)).tolist()
            value = u / (u + v) if u + v <= 1 else None
        assert draw_beta(beta, generator(seed)) == pytest.approx(value)


def test_a_box_is_centred_where_drawn_and_cut_at_the_borders():
    for seed in range(40):
        draws = generator(seed)
        cut = (1 - torch.rand((), generator=draws).item()) ** 0.5
        middle = [int(torch.randint(side, (), generator=draws)) for side in (20, 30)]
        reach = [int(side * cut) // 2 for side in (20, 30)]
        expected = [(max(0, at - by), min(side, at + by)) for at, by, side in zip(middle, reach, (20, 30), strict=True)]
        assert draw_cutmix_box(20, 30, generator(seed)) == (*expected[0], *expected[1])
