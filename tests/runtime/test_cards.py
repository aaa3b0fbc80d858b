"""What a plan makes of counted needs on known cards."""

from __future__ import annotations

import pytest

import ddbench
from ddbench.runtime.cards import ARITHMETIC, BANDWIDTH, CARDS, GIB, RESERVED, Card, card
from ddbench.runtime.estimates import Effort, Estimate, on_card

ROUND = Card("a card", 24 * GIB, 1e14, 1e12, "nobody")


def test_time_is_arithmetic_and_traffic_at_the_assumed_shares():
    assert ROUND.seconds(ddbench.Demand(flops=ARITHMETIC * 1e15)) == pytest.approx(10)
    assert ROUND.seconds(ddbench.Demand(flops=0, traffic=BANDWIDTH * 3e12)) == pytest.approx(3)


def test_the_largest_batch_is_a_power_of_two_that_fits():
    left = 24 * GIB - RESERVED
    demand = ddbench.Demand(flops=1, fixed=left - 9 * GIB, each=GIB, batch=4, option="method.batch_size")
    assert ROUND.largest(demand) == 8
    assert ROUND.advice(demand) == "fits: 19.0 GiB with method.batch_size=4, up to 8 fit"
    wide = ddbench.Demand(flops=1, fixed=left - 9 * GIB, each=GIB, batch=16, option="method.batch_size")
    assert ROUND.advice(wide) == "too large: 31.0 GiB with method.batch_size=16; -o method.batch_size=8 fits"
    heavy = ddbench.Demand(flops=1, fixed=left, each=GIB, option="method.batch_size")
    assert ROUND.largest(heavy) == 0 and "no smaller batch fits" in ROUND.advice(heavy)
    assert ROUND.advice(ddbench.Demand(flops=1, fixed=left)) == "fits: 24.0 GiB"


def test_what_is_not_counted_is_unknown_on_a_card():
    assert on_card(ROUND, None) == Estimate() == on_card(ROUND, Effort(5.0, {}))
    assert on_card(ROUND, Effort(5.0, {}, 7, lambda: None)) == Estimate(disk=7)
    found = on_card(ROUND, Effort(5.0, {}, 7, lambda: ddbench.Demand(ARITHMETIC * 1e14, fixed=GIB)))
    assert found == Estimate(pytest.approx(1), GIB, 7, "fits: 2.5 GiB")


def test_cards_are_named_and_have_sources():
    assert card("") is None and card("h100") is CARDS["h100"]
    assert all(known.source and known.memory > 8 * GIB for known in CARDS.values())
    with pytest.raises(ddbench.UsageError, match=r"Unknown card 'h10'.*h100"):
        card("h10")
