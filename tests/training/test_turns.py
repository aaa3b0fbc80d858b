"""Trainings that use all cores take turns, and nobody waits for ever."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch
from ddbench_plugins.executors import local
from ddbench_plugins.training import turns as module
from ddbench_plugins.training.turns import Turns, turns


def test_one_works_while_the_others_wait(tmp_path):
    first, second = Turns(tmp_path / "x"), Turns(tmp_path / "x")
    began = threading.Event()

    def work():
        with second.taken():
            began.set()

    thread = threading.Thread(target=work)
    with first.taken(), first.taken():  # a loop within a loop has one turn
        thread.start()
        assert not began.wait(0.2)
    thread.join()
    assert began.is_set()


def test_they_alternate(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HELD", 0.0)
    order = []
    lock = threading.Barrier(2)

    def work(name):
        mine = Turns(tmp_path / "x")
        lock.wait()
        with mine.taken():
            for _ in range(20):
                order.append(name)
                waiting.wait(0.02)  # long enough for the other one to ask
                mine.pass_on()

    waiting = threading.Event()
    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changes = sum(one != other for one, other in itertools.pairwise(order))
    assert sorted(order) == ["a"] * 20 + ["b"] * 20
    assert changes >= 10


def test_a_turn_lasts_for_many_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HELD", 1e9)
    mine = Turns(tmp_path / "x")
    with mine.taken():
        began = mine._since
        mine.pass_on()
        assert mine._since == began


def test_one_that_never_gives_its_turn_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with Turns(tmp_path / "x").taken(), Turns(tmp_path / "x").taken():
        pass


@pytest.mark.parametrize(
    ("device", "threads", "cores", "waits"),
    [("cpu", 2, 2, True), ("cpu", 3, 4, True), ("cpu", 1, 2, False), ("cpu", 2, 4, False), ("cuda", 2, 2, False)],
)
def test_who_takes_turns(device, threads, cores, waits, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(local, "cores", lambda: cores)
    assert bool(turns(device)._locks) == waits


def test_processes_of_one_run_take_none(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(local, "cores", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not turns("cpu")._locks
