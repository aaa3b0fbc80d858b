"""Workers as tasks of a Ray cluster: the records of one process, although a node is lost; what is refused."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from test_workers import PLUGIN, WORDS, _place, command, digests, finish, made, noted, start, states, wait_for  # noqa: F401

from ddbench.errors import DDBenchError
from ddbench.experiment import driver, setup
from ddbench.experiment.queue import Queue

ray = pytest.importorskip("ray")


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    ray.shutdown()
    started.shutdown()


def on_ray(**options):
    base = setup.context([PLUGIN], device="cpu", precision="fp32")
    bound = replace(base, explicit={"executor/ray": options}).use("executor", "ray")
    driver.check(bound)
    return bound


@pytest.mark.slow
def test_a_node_is_lost_and_another_one_comes(cluster, monkeypatch):
    machine = ("--plugin", PLUGIN, "--device", "cpu", "--precision", "fp32", "--registry", "one")
    code, _, err = finish(start(*WORDS[:-1], "0", *machine, env={**os.environ, "DDBENCH_HOME": "one-home"}))
    assert code == 0, err
    Path("notes").unlink()
    monkeypatch.setenv("DDBENCH_TEST_SECONDS", "1")
    lost, most, new = cluster.add_node(num_cpus=1), [], []
    run, _ = made(seed=[0])

    def look():
        most.append(len(Queue(run.folder).running()))
        if not new and most[-1] == 2 and run.outcomes():
            cluster.remove_node(lost, allow_graceful=False)
            new.append(cluster.add_node(num_cpus=1))

    driver.drive(run, on_ray(address=cluster.address), look)
    assert states(run) == {"done": 8} and digests(Path("registry")) == digests(Path("one"))
    assert max(most) >= 2 and new and len(run.workers()) >= 3  # the cell of a lost node counts until it is taken over
    assert noted()["base"] == 1


@pytest.mark.slow
def test_one_that_is_started_here_shares_gpus_and_names_another_version(monkeypatch, capsys):
    run, _ = made()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells start what they leave in the background
    try:
        ray.init(address="local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)
        plugin, ctx, _ = on_ray()
        assert plugin.capacity(ctx, 10) == 1  # a whole GPU each
        assert [plugin.capacity(on_ray(gpus=share).ctx, 10) for share in (0.5, 0.25, 0)] == [2, 4, 4]
        assert plugin.capacity(on_ray(workers=9).ctx, 10) == 9
        monkeypatch.setenv("DDBENCH_TEST_SECONDS", "100")
        executor = on_ray(gpus=0.5, cpus=2)
        driver.drive(run, executor, lambda: run.stop() if len(Queue(run.folder).running()) else None)
        crew = driver.Crew(Queue(run.folder), executor)
        assert len(crew.running()) == 1
        crew.end()
        wait_for(lambda: states(run) == {"waiting": 16}, 400)  # the worker gives it back
        wait_for(lambda: not crew.running(), 400)  # and ends, before the run may go on
        about = (run.folder / "run.json").read_text().replace('"ddbench": "', '"ddbench": "9.')
        (run.folder / "run.json").write_text(about)
        (run.folder / "stop").unlink()
        with pytest.raises(DDBenchError, match=r"Workers end before they do anything: .*was started with 9\."):
            driver.drive(Queue(run.folder), on_ray(), lambda: None)
    finally:
        ray.shutdown()
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:{port}", "No Ray cluster can be used at 127.0.0.1:{port}: [Errno 111] Connection refused"),
        ("nonsense", "No Ray cluster can be used at nonsense: Invalid address format: nonsense"),
    ],
)
def test_an_address_that_nobody_answers(capsys, address, said):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("--plugin", PLUGIN, "--executor", "ray", "-o", f"executor.address={address.format(port=port)}")
    code, _, err = command(capsys, *WORDS, *words)
    assert code == 2 and err.splitlines()[0] == f"error: {said.format(port=port)}" and len(err.splitlines()) == 2
