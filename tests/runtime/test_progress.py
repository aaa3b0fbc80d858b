"""How long a task will still take."""

from __future__ import annotations

import pytest

from ddbench.runtime.progress import LineReporter, Pace


def test_nothing_is_said_before_there_is_a_pace():
    pace = Pace()
    assert pace.left(5.0, 0, 100) is None
    assert pace.left(6.0, 10, None) is None
    assert pace.left(7.0, 20, 100) == pytest.approx(2 * 80 / 20)


def test_a_resumed_task_is_judged_by_what_it_does_now():
    pace = Pace()
    assert pace.left(0.0, 480, 1000) is None
    assert pace.left(10.0, 490, 1000) == pytest.approx(510)


def test_a_second_stretch_begins_anew():
    pace = Pace()
    for done in (10, 2000, 3000):
        pace.left(done / 10, done, 3000)
    assert pace.left(301.0, 10, 4500) is None
    assert pace.left(311.0, 20, 4500) == pytest.approx(4480)


def test_lines_say_figures_and_what_is_left(capsys):
    with LineReporter(interval=0.0).task("counting", 4) as advance:
        advance(1)
        for done in range(2, 5):
            advance(done, figures={"loss": 0.123456, "lr": 1e-5})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  counting: 1/4"
    assert lines[-1] == "  counting: 4/4 · loss 0.1235, lr 1e-05, about 0 s left"
