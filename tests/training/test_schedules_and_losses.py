import pytest
import torch
import torch.nn.functional as F
from ddbench_plugins.training import losses, schedules


def test_minimax_at_2000_epochs():
    factor = schedules.idc_multi_step(2000)
    rates = [round(0.01 * factor(e), 6) for e in range(2000)]
    assert rates == [0.01] * 1333 + [0.002] * 333 + [0.0004] * 334


@pytest.mark.parametrize(("epochs", "high", "low"), [(300, 152, 149), (1000, 502, 499)])
def test_dc_runs_one_epoch_more_and_drops_once(epochs, high, low):
    factor = schedules.dc_step(epochs)
    assert [factor(e) for e in range(epochs + 1)] == [1.0] * high + [0.1] * low
    assert schedules.dc_restart_epoch(epochs) == high


def test_rded_ends_at_half_its_rate():
    factor = schedules.half_cosine(300)
    for epoch, expected in ((0, 0.001), (150, 0.000853553), (299, 0.000502618)):
        assert 0.001 * factor(epoch) == pytest.approx(expected, abs=5e-10)


def test_other_schedules():
    assert schedules.cosine(100)(0) == 1 and schedules.cosine(100)(50) == pytest.approx(0.5)
    assert schedules.linear(10)(5) == 0.5
    assert [schedules.step(2)(e) for e in range(5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert schedules.constant()(17) == 1
    warm = schedules.warmup_cosine(100)
    assert warm(0) == 0.01 and warm(5) == 1 and warm(99) < 0.01
    cycle = schedules.one_cycle(20)
    assert cycle(0) == pytest.approx(0.1) and cycle(5) == 1 and cycle(20) == 0 and cycle(21) == 0


STUDENT, TEACHER = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).unbind()


def test_kl_has_no_square_of_the_temperature_unless_asked():
    p, q = F.softmax(TEACHER / 20, 1), F.softmax(STUDENT / 20, 1)
    expected = (p * (p.log() - q.log())).sum() / 6
    torch.testing.assert_close(losses.kl_soft_label(STUDENT, TEACHER, 20), expected, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(
        losses.kl_soft_label(STUDENT, TEACHER, 20, scale_by_t2=True), expected * 400, rtol=1e-3, atol=1e-5
    )
    assert losses.kl_soft_label(TEACHER, TEACHER, 4) == pytest.approx(0, abs=1e-6)


def test_soft_cross_entropy_is_kl_plus_entropy():
    p = F.softmax(TEACHER / 4, 1)
    entropy = -(p * p.log()).sum(1).mean()
    torch.testing.assert_close(
        losses.soft_cross_entropy(STUDENT, TEACHER, 4), losses.kl_soft_label(STUDENT, TEACHER, 4) + entropy
    )
    assert losses.soft_cross_entropy(STUDENT, TEACHER, 4, scale_by_t2=True) == pytest.approx(
        16 * losses.soft_cross_entropy(STUDENT, TEACHER, 4).item(), rel=1e-5
    )


def test_mse_and_mixed_cross_entropy():
    labels, partners = torch.arange(6) % 5, (torch.arange(6) + 2) % 5
    ce, other = F.cross_entropy(STUDENT, labels), F.cross_entropy(STUDENT, partners)
    mse = ((STUDENT - TEACHER) ** 2).mean()
    torch.testing.assert_close(
        losses.mse_and_ground_truth(STUDENT, TEACHER, labels, mse_weight=2, ce_weight=3), 2 * mse + 3 * ce
    )
    torch.testing.assert_close(
        losses.mixed_cross_entropy(STUDENT, labels, partners, torch.tensor(0.7)), 0.7 * ce + 0.3 * other
    )
