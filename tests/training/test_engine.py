import pytest
from ddbench_plugins.training import engine
from ddbench_plugins.training.engine import Saving


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


class Slow:
    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.states = clock, seconds, []

    def save(self, state):
        self.clock.now += self.seconds
        self.states.append(state)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(engine, "time", clock)
    return clock


def test_a_state_is_due_after_so_many_seconds_of_work(clock):
    kept = Saving(Slow(clock, 0), 20)
    clock.now = 19
    assert not kept.due()
    clock.now = 20
    assert kept.due()
    kept.save({"step": 1})
    assert not kept.due()
    clock.now = 40
    assert kept.due()


def test_states_that_take_long_to_write_take_a_twentieth_of_the_time_at_most(clock):
    slow = Slow(clock, 30)
    kept = Saving(slow, 20)
    kept.save({})
    clock.now += 599
    assert not kept.due()
    clock.now += 1
    assert kept.due() and len(slow.states) == 1


def test_zero_seconds_are_every_step(clock):
    kept = Saving(Slow(clock, 30), 0)
    kept.save({})
    assert kept.due()


def test_nothing_is_due_where_nothing_is_kept(clock):
    kept = Saving(None, 0)
    clock.now = 100
    kept.save({})
    assert not kept.due()
