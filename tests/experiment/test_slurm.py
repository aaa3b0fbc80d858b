"""Workers as jobs of a real Slurm cluster: the records of one process, whatever is killed; what is refused."""

from __future__ import annotations

import builtins
import os
import random
import runpy
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ddbench_plugins.executors.slurm import Slurm
from test_workers import PLUGIN, WORDS, _place, command, digests, finish, made, noted, start, states  # noqa: F401

from ddbench.errors import DDBenchError
from ddbench.experiment import driver, setup
from ddbench.experiment.queue import Queue

MACHINE = ("--plugin", PLUGIN, "--device", "cpu", "--precision", "fp32")
SANDBOX = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "slurm_sandbox.py"))


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(Slurm, "interval", 0.5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if program := SANDBOX["missing"]():
        pytest.skip(f"{program} is not installed (Debian: apt-get install slurm-wlm munge)")
    with SANDBOX["Sandbox"](tmp_path_factory.mktemp("slurm"), MaxArraySize=4) as started:
        yield started


@pytest.fixture
def slurm(cluster, monkeypatch):
    pytest.importorskip("submitit")
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster


def on_slurm(**options):
    base = setup.context([PLUGIN], device="cpu", precision="fp32")
    return replace(base, explicit={"executor/slurm": options}).use("executor", "slurm")


@pytest.mark.slow
def test_arrays_of_two_make_the_records_of_one_process_although_tasks_are_killed(slurm, monkeypatch):
    one = {**os.environ, "DDBENCH_HOME": "one-home"}
    code, _, err = finish(start(*WORDS[:-1], "0", *MACHINE, "--registry", "one", env=one))
    assert code == 0, err
    Path("notes").unlink()
    monkeypatch.setenv("DDBENCH_TEST_SECONDS", "0.2")
    run, _ = made(seed=[0])
    most, killed, faults = [0], [], random.Random(3)

    def look():
        running = slurm.jobs("RUNNING")
        most.append(len(running))
        claimed = Queue(run.folder).running()
        if running and len(killed) < 2 and len(claimed) == len(running):  # each is at work
            killed.append(faults.choice(running))
            if len(killed) % 2:
                slurm.run("scancel", "--signal=KILL", "--full", killed[-1])
            else:
                slurm.run("scontrol", "requeue", killed[-1])

    driver.drive(run, on_slurm(array_parallelism=2, cells_per_job=2, setup=("export SAID=1", "echo set up")), look)
    assert states(run) == {"done": 8} and digests(Path("registry")) == digests(Path("one"))
    assert max(most) == 2 and len(killed) == 2
    assert noted()["base"] <= 1 + len(killed)  # once more for each worker that died in it
    logs = [path.read_text() for path in run.folder.glob("logs/slurm-*.log")]
    assert len(logs) >= 4 and all("set up" in log for log in logs)
    arrays = [path.read_text() for path in run.folder.glob("slurm/*_submission.sh")]
    assert all(f"--array=0-{limit}" not in text for text in arrays for limit in range(4, 8))


@pytest.mark.slow
def test_jobs_go_on_without_the_command_and_cancel_ends_them(slurm, capsys):
    words = (*WORDS, "--plugin", PLUGIN, "--executor", "slurm", "-o", "slurm.cells_per_job=8", "--detach")
    code, out, err = command(capsys, *words)
    assert code == 0 and "workers continue" in out, err
    (run,) = driver_queues()
    handles = [worker["handle"] for worker in run.workers()]
    assert len(handles) == 2 and set(handles) <= set(slurm.jobs())  # others may still be ending
    deadline = time.monotonic() + 600
    while slurm.jobs() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert states(run) == {"done": 16}
    os.environ["DDBENCH_TEST_SECONDS"] = "100"
    try:
        code, _, err = command(capsys, *words, "--force")
    finally:
        del os.environ["DDBENCH_TEST_SECONDS"]
    assert code == 0 and slurm.jobs(), err
    code, out, _ = command(capsys, "cancel")
    assert code == 0 and "2" in out and not slurm.jobs("PENDING,RUNNING")


def driver_queues():
    from ddbench.experiment.queue import queues

    return queues()


@pytest.mark.slow
def test_a_worker_of_another_version_is_named(slurm):
    run, _ = made()
    about = (run.folder / "run.json").read_text().replace('"ddbench": "', '"ddbench": "9.')
    (run.folder / "run.json").write_text(about)
    with pytest.raises(DDBenchError, match=r"Workers end before they do anything: .*was started with 9\."):
        driver.drive(run, on_slurm(cells_per_job=16), lambda: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("partition=gpus", "Slurm refuses such a job: invalid partition specified: gpus."),
        ("mem=100G", "Slurm refuses such a job: Requested node configuration is not available."),
        ('sbatch=["colour=red"]', "Slurm refuses such a job: unrecognized option '--colour=red'."),
    ],
)
def test_what_slurm_refuses_is_said_in_one_line(slurm, capsys, option, said):
    code, _, err = command(capsys, *WORDS, "--plugin", PLUGIN, "--executor", "slurm", "-o", f"executor.{option}")
    assert (code, err.splitlines()[0]) == (2, f"error: {said}")


def test_no_sbatch_on_the_path(capsys, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = command(capsys, *WORDS, "--plugin", PLUGIN, "--executor", "slurm")
    assert code == 2 and "error: There is no sbatch on the path" in err
    assert not driver_queues()


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_package_names_its_extra(capsys, monkeypatch, name, package):
    real = builtins.__import__

    def without(module, *rest, **more):
        if module.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(module, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    code, _, err = command(capsys, *WORDS, "--plugin", PLUGIN, "--executor", name)
    assert code == 2 and f"pip install 'ddbench[{name}]'" in err


def test_squeue_that_gives_no_answer_ends_no_worker(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    plugin, ctx, _ = on_slurm()
    assert plugin.running(ctx, ["7_0", "7_1"]) == ["7_0", "7_1"]
