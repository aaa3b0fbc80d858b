"""Workers of a run: the records of one process, every step once, whatever dies."""

from __future__ import annotations

import collections
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddbench import cli
from ddbench.cli import study as studies
from ddbench.errors import DDBenchError, UsageError
from ddbench.experiment import jobs, pipeline, queue, setup
from ddbench.experiment.driver import tasks
from ddbench.experiment.dry_run import steps
from ddbench.experiment.pipeline import artifact
from ddbench.experiment.queue import Queue
from ddbench.experiment.study import of_command
from ddbench.experiment.worker import Worker
from ddbench.files import locks
from ddbench.runtime.store import StepTaken

PLUGIN = Path(__file__).parents[1] / "worker_toy.py"
STUDY = {"method": "shared,shared-too", "eval": "noted,noted-too", "dataset": "toy", "ipc": [1, 2], "seed": [0, 1]}
WORDS = shlex.split("run -m shared,shared-too -e noted,noted-too -d toy --ipc 1,2 --seed 0,1")

#: What is built: a base for all, a set for two methods and each of their budgets and seeds, two networks in 16 cells.
EACH_ONCE = {
    "base": 1,
    **{f"set {ipc} {seed}": 2 for ipc in (1, 2) for seed in (0, 1)},
    "student 0": 16,
    "student 1": 16,
}


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDBENCH_TEST_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("DDBENCH_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PLUGIN.parent), *sys.path]))
    monkeypatch.syspath_prepend(str(PLUGIN.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "config.toml").write_text("")


def start(*words, **more):
    command = [sys.executable, "-m", "ddbench", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def command(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    return ended.value.code, *capsys.readouterr()


def digests(registry):
    return {
        path.relative_to(registry).as_posix(): json.loads(path.read_text())["digest"]
        for path in registry.glob("results/**/*.json")
    }


def noted():
    """Return what was built, without process ids."""
    lines = Path("notes").read_text().splitlines() if Path("notes").exists() else []
    return collections.Counter(line.rpartition(" ")[0] for line in lines)


def made(**more):
    """Return a queue that nobody works on, and its jobs."""
    base = setup.context([PLUGIN], device="cpu", precision="fp32")
    expansion = jobs.expand(of_command({**STUDY, **more}), base, build=False)
    settings = {
        **{
            "device": "cpu",
            "precision": "fp32",
            "offline": False,
            "force": False,
            "study": "",
            "folder": str(Path.cwd()),
        },
        **{"plugins": [str(PLUGIN)], "registry": str(Path("registry").absolute())},
    }
    return Queue.create("test", tasks(expansion.jobs), settings, base.plugins), expansion.jobs


def explain(error):
    return str(error), "", 1


def states(run):
    return collections.Counter(state.state for state in Queue(run.folder).states())


def wait_for(true, seconds=600.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.slow
def test_workers_make_the_records_of_one_process_and_every_step_once(tmp_path):
    for name, more in (("one", ()), ("two", ("--jobs", 2))):
        ended = finish(
            start(*WORDS, "--plugin", PLUGIN, "--registry", name, *more, env={**os.environ, "DDBENCH_HOME": name})
        )
        assert ended[0] == 0, ended[2]
    assert len(digests(Path("one"))) == 16
    assert digests(Path("one")) == digests(Path("two"))
    assert noted() == {what: 2 * count for what, count in EACH_ONCE.items()}


def test_a_worker_takes_what_is_left_and_notes_how_each_cell_ended():
    run, _ = made()
    assert states(run) == {"waiting": 16}
    with run.claim(3) as mine:
        assert mine
        assert states(run) == {"waiting": 15, "running": 1}
        Worker(Queue(run.folder), explain).run(cells=5)
    run.end(9, state="failed", message="as said", hint="", code=3)
    assert states(run) == {"waiting": 10, "done": 5, "failed": 1}
    assert not Queue(run.folder).ended(3)
    Worker(Queue(run.folder), explain).run(None)
    assert states(run) == {"done": 15, "failed": 1}
    done = Queue(run.folder).outcomes()
    assert {outcome["digest"] for outcome in done.values() if outcome["state"] == "done"} == set(
        digests(Path("registry")).values()
    )


def test_a_step_in_the_making_is_not_waited_for_but_another_cell_is_taken():
    run, expanded = made(seed=[0], eval="noted")
    first = expanded[0].planned.method
    from ddbench.keys import digest
    from ddbench.runtime.store import lease_of

    path = first.ctx.store.path("distilled", digest(artifact(first)))
    path.parent.mkdir(parents=True)
    with locks.leased(lease_of(path)):
        Worker(Queue(run.folder), explain).run(cells=3)
        assert [state.state for state in Queue(run.folder).states()] == ["waiting", "done", "done", "done"]
    Worker(Queue(run.folder), explain).run(None)
    assert states(run) == {"done": 4}


def test_of_cells_that_wait_for_one_step_one_is_started():
    run, _ = made()
    assert run.startable() == 1  # all need the base
    Worker(Queue(run.folder), explain).run(cells=1)
    # Of the 15 that are left, one has its set; of the other seven sets, one cell each can be started.
    assert Queue(run.folder).startable() == 8


def test_an_idle_worker_trains_the_networks_of_a_cell_that_another_one_holds():
    run, _ = made(method="shared", eval="noted", ipc=[1], seed=[0], repeats=4)
    worker = Worker(Queue(run.folder), explain)
    with run.claim(1):
        assert not worker._help(1) and run.startable() == 1  # nothing is distilled
    job = worker._job(1)
    pipeline.distil(job.planned.method)
    with run.claim(1):
        run.share(1)
        assert run.startable() == 4
        assert all(worker._help(1) for _ in range(4)) and not worker._help(1)
    trained = [line.split()[1] for line in Path("notes").read_text().splitlines() if line.startswith("student")]
    assert trained == ["3", "2", "1", "0"]
    worker.run(None)
    assert states(run) == {"done": 1} and noted()["student 3"] == 1


SHARDS = {"base": 1, **{f"shard {part}": 1 for part in range(4)}, "parted": 1, "student 0": 1, "student 1": 1}


def test_an_idle_worker_makes_shards_that_a_cell_of_another_one_lacks():
    run, (job,) = made(method="parted", eval="noted", ipc=[1], seed=[0])
    worker = Worker(Queue(run.folder), explain)
    (step,) = [one.path for one in steps(job) if one.path.parent.name == "parted"]
    with run.claim(1):
        assert not worker._help(1) and run.startable() == 1
        run.share(1, step, 4)
        assert run.startable() == 4
        assert all(worker._help(1) for _ in range(4)) and not worker._help(1)
        run.share(1, step, 0)
        assert run.startable() == 1 and not worker._help(1)
    worker.run(None)
    assert states(run) == {"done": 1} and noted() == SHARDS


def test_what_a_killed_worker_made_of_a_step_is_kept_by_shards():
    run, _ = made(method="parted", eval="noted", ipc=[1], seed=[0])
    slow = start("worker", run.folder, env={**os.environ, "DDBENCH_TEST_SECONDS": "0.3"})
    wait_for(lambda: noted()["shard 2"])
    slow.kill()
    slow.communicate()
    assert Queue(run.folder).startable() >= 1
    Worker(Queue(run.folder), explain).run(None)
    assert states(run) == {"done": 1} and noted() in (SHARDS, {**SHARDS, "shard 2": 2})


def test_a_shard_that_fails_is_told_once_and_not_tried_again_by_helpers(monkeypatch):
    monkeypatch.setenv("DDBENCH_TEST_FAIL", "1")
    run, (job,) = made(method="parted", eval="noted", ipc=[1], seed=[0])
    helper = Worker(Queue(run.folder), explain)
    with run.claim(1):
        run.share(1, next(one.path for one in steps(job) if one.path.parent.name == "parted"), 4)
        assert helper._help(1) and not helper._help(1) and not helper._help(1)
        assert noted()["shard 1"] == 1
    helper.run(None)
    (state,) = Queue(run.folder).states()
    assert state.state == "failed" and state.about["message"].endswith("ZeroDivisionError: on purpose")
    assert noted()["shard 1"] == 2  # and once by the worker of the cell


def test_a_cell_whose_data_another_worker_is_preparing_is_given_back(monkeypatch):
    run, _ = made(method="shared", eval="noted", ipc=[1], seed=[0])
    worker, job = Worker(Queue(run.folder), explain), Worker._job
    taken = StepTaken("images", Path.cwd() / "images" / "0", "another")

    def busy(self, number):
        monkeypatch.setattr(Worker, "_job", job)
        raise taken

    monkeypatch.setattr(Worker, "_job", busy)
    assert not worker._take(1) and states(run) == {"waiting": 1}
    worker.run(None)
    assert states(run) == {"done": 1}


@pytest.mark.slow
def test_workers_share_the_shards_of_one_cell():
    run_ = shlex.split("run -m parted -e noted -d toy --ipc 1 --seed 0 --repeats 2")
    for name, more in (("one", ()), ("two", ("--jobs", 2))):
        env = {**os.environ, "DDBENCH_HOME": name, "DDBENCH_TEST_SECONDS": "5" if more else "0"}
        ended = finish(start(*run_, "--plugin", PLUGIN, "--registry", name, *more, env=env))
        assert ended[0] == 0, ended[2]
    assert digests(Path("one")) == digests(Path("two")) != {}
    assert noted() == {what: 2 * count for what, count in SHARDS.items()}
    lines = [line.rsplit(" ", 1) for line in Path("notes").read_text().splitlines()]
    assert len({process for what, process in lines if what.startswith("shard")}) == 3


def test_the_cell_of_a_killed_worker_is_taken_over(monkeypatch):
    run, _ = made(method="shared", eval="noted", ipc=[1], seed=[0])
    slow = start("worker", run.folder, env={**os.environ, "DDBENCH_TEST_SECONDS": "100"})
    wait_for(lambda: noted()["base"])
    slow.kill()
    slow.communicate()
    assert states(run) == {"running": 1}
    Worker(Queue(run.folder), explain).run(None)
    assert states(run) == {"done": 1}


@pytest.mark.parametrize("swallows", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_worker_that_is_told_to_end_gives_its_cell_back(swallows):
    run, _ = made(method="shared", eval="noted", ipc=[1], seed=[0])
    more = {"DDBENCH_TEST_SWALLOWS": "once"} if swallows else {}
    slow = start("worker", run.folder, env={**os.environ, "DDBENCH_TEST_SECONDS": "1000", **more})
    wait_for(lambda: noted()["base"])
    slow.terminate()
    _, err = slow.communicate(timeout=300)
    assert states(run) == {"waiting": 1} and not run.claimed(1)
    assert "signal handlers" not in err + run.log(1).read_text()


def test_a_cell_in_which_workers_die_fails_at_last(monkeypatch):
    monkeypatch.setattr(queue, "DEATHS", 2)
    run, _ = made(method="shared", eval="noted", ipc=[1], seed=[0])
    (run.folder / "claims" / "000001.json").write_text(json.dumps({"worker": "a:1", "since": 0, "deaths": 1}))
    with run.claim(1) as mine:
        assert not mine
    (state,) = Queue(run.folder).states()
    assert state.state == "failed" and state.about["message"] == "2 workers died in it."


def test_a_failing_cell_is_told_with_its_log_and_the_others_finish(capsys):
    Path("study.toml").write_text(
        f'plugin = "{PLUGIN}"\nmethod = "shared"\neval = "noted"\ndataset = "toy"\nipc = 1\nseed = 0\n'
        "[[cells]]\noption.method.fail = true\n[[cells]]\n"
    )
    words = ("run", "study.toml", "--jobs", 1)
    code, out, err = command(capsys, *words)
    assert code == 3 and "1 recorded, 1 failed" in out
    assert err.count("on purpose") == 2  # when it fails, and in the summary with its log
    assert "000001.log" in err and "--retry-failed" in err
    before = noted()
    code, out, err = command(capsys, *words)
    assert code == 3 and "1 recorded, 1 failed" in out and noted() == before
    code, out, err = command(capsys, *words, "--retry-failed")
    assert code == 3, err
    assert noted()["base"] == before["base"]
    code, out, _ = command(capsys, "status", "study.toml", "--json")
    told = json.loads(out)
    assert (told["done"], told["failed"], told["waiting"]) == (1, 1, 0)
    failed, done = told["cells"]
    assert "on purpose" in failed["message"] and "ZeroDivisionError" in Path(failed["log"]).read_text()
    assert done["state"] == "done" and float(done["accuracy"].split()[0]) > 33
    code, out, _ = command(capsys, "status")
    assert code == 0 and "1 done, 1 failed" in out and done["title"] in out


@pytest.mark.slow
def test_two_drivers_run_each_cell_once():
    words = (*WORDS, "--plugin", PLUGIN, "--jobs", 2, "--registry", "registry")
    ended = [finish(driver) for driver in [start(*words), start(*words)]]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert noted() == EACH_ONCE
    (run,) = queue.queues()
    assert len(run.workers()) <= 2 + 2  # the second driver takes over when the first has ended


@pytest.mark.slow
def test_a_killed_driver_is_replaced_by_one_that_finds_what_runs():
    env = {**os.environ, "DDBENCH_TEST_SECONDS": "0.2"}
    words = (*WORDS, "--plugin", PLUGIN, "--jobs", 2)
    driver = start(*words, env=env)
    wait_for(lambda: noted()["set 1 0"])
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    (run,) = queue.queues()
    code, out, err = finish(start(*words, env=env))
    assert code == 0 and out.count("record  ") == 16, err
    assert noted() == EACH_ONCE
    assert len(run.workers()) == 2  # those of the first driver were found, with their places
    assert {worker["handle"].rpartition(":")[2] for worker in run.workers()} == {"0", "1"}


@pytest.mark.slow
def test_cancel_ends_the_workers_and_the_command(capsys):
    driver = start(*WORDS, "--plugin", PLUGIN, "--jobs", 2, env={**os.environ, "DDBENCH_TEST_SECONDS": "100"})
    wait_for(lambda: noted()["base"])
    code, out, _ = command(capsys, "cancel")
    assert code == 0 and "ended" in out
    code, _, err = finish(driver)
    assert code == 1 and "It was cancelled" in err
    (run,) = queue.queues()
    assert states(run) == {"waiting": 16}


def test_a_command_of_a_plan_makes_the_same_record(capsys):
    words = ("-m", "shared", "-e", "noted", "-d", "toy", "--ipc", 2, "-o", "method.noise=3", "--plugin", PLUGIN)
    assert command(capsys, "run", *words, "--registry", "one")[0] == 0
    code, out, _ = command(capsys, "plan", *words, "--registry", "two", "--commands")
    (line,) = out.splitlines()
    assert code == 0 and command(capsys, *shlex.split(line)[1:])[0] == 0
    assert digests(Path("one")) == digests(Path("two")) != {}


def test_options_of_executors_come_from_command_study_and_configuration(capsys):
    from ddbench.experiment.executors import bind, named

    base = setup.context([], device="cpu", precision="fp32")

    def resolved(given, *arguments):
        study = of_command({**STUDY, "option": given})
        name = named(study, *arguments)
        return name, name and bind(base, study, name, *arguments[1:]).ctx.options.model_dump()

    assert resolved({})[0] == ""
    assert resolved({"executor": {"workers": "3"}}) == ("local", {"workers": 3, "per_gpu": 1, "threads": 0})
    assert resolved({"local": {"threads": 2}}, "", 5) == ("local", {"workers": 5, "per_gpu": 1, "threads": 2})
    Path("config.toml").write_text('executor = "local"\noption.executor.threads = 4\noption.local.per_gpu = 2\n')
    assert resolved({"executor": {"threads": 1}}) == ("local", {"workers": 0, "per_gpu": 2, "threads": 1})
    Path("config.toml").write_text("executors = 3\n")
    with pytest.raises(UsageError, match=r"key of .*config.toml"):
        resolved({})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--executor", "loca"), "Unknown executor 'loca'. Did you mean 'local'?"),
        (("--jobs", "2", "-o", "executor.worker=3"), "has no option 'worker'. Did you mean 'workers'?"),
        (("--executor", "local", "-o", "local.workers=many"), "workers='many'"),
        (("--jobs", "2", "--detach"), "--detach: workers of the executor local end with the command"),
        (("--jobs", "2", "-m", "shraed"), "Unknown method 'shraed'"),
    ],
)
def test_mistakes_are_refused_in_one_line_before_any_worker_starts(capsys, words, said):
    code, _, err = command(capsys, *WORDS, "--plugin", PLUGIN, *words)
    assert code == 2 and said in err and len(err.splitlines()) <= 2
    assert not queue.queues() or not queue.queues()[0].workers()


def test_a_worker_of_another_version_is_refused(capsys):
    run, _ = made()
    about = json.loads((run.folder / "run.json").read_text())
    about["versions"]["ddbench"] = "9.9"
    (run.folder / "run.json").write_text(json.dumps(about))
    code, _, err = command(capsys, "worker", run.folder)
    assert code == 2 and "has ddbench 0.1.0, and the run was started with 9.9" in err
    assert noted() == {}


def test_workers_that_end_at_once_end_the_command(capsys, monkeypatch):
    from ddbench.experiment import driver

    monkeypatch.setattr(driver, "LOOK", 0.05)
    monkeypatch.setenv("PYTHONPATH", "")
    launch = driver.Crew._launch
    failing = (sys.executable, "-c", "import sys; sys.exit('no CUDA here')", "worker")
    monkeypatch.setattr(driver.Crew, "_launch", lambda self: driver.replace(launch(self), command=failing))
    run, _ = made()
    base = setup.context([PLUGIN], device="cpu", precision="fp32")
    local = base.use("executor", "local")
    monkeypatch.setattr(type(local.plugin), "interval", 0.05)
    with pytest.raises(DDBenchError, match="Workers end before they do anything: no CUDA here"):
        driver.drive(run, local, lambda: None)


def test_a_run_that_is_asked_for_again_is_the_latest_one():
    first, _ = made()
    second, _ = made(ipc=[1])
    os.utime(first.folder / "run.json", (1, 1))
    assert [run.folder for run in queue.queues()] == [second.folder, first.folder]
    os.utime(second.folder / "run.json", (2, 2))
    first.begin(retry=False, again=False)
    assert [run.folder for run in queue.queues()] == [first.folder, second.folder]


def test_an_outcome_that_nobody_can_read_is_forgotten(capsys):
    run, _ = made()
    (run.folder / "outcomes" / "000001.json").write_text("[]")
    (run.folder / "claims" / "000002.json").write_text("[1]")
    assert states(run) == {"waiting": 16}
    run.begin(retry=False, again=False)
    assert not run.ended(1)


def test_what_a_cell_says_stays_in_its_line_and_does_not_act_on_the_terminal(capsys):
    run, _ = made()
    run.end(1, state=queue.FAILED, message="evil \x1b]0;title\x07\nsecond line", hint="\x1b[2J", code=1)
    _, out, _ = command(capsys, "status")
    assert "\x1b" not in out and "evil \\x1b]0;title\\x07\\nsecond line" in out and len(out.splitlines()) == 17
    error = DDBenchError("evil \x1b]0;title\x07", hint="\x1b[2J")
    assert studies.report([jobs.Failure("a cell", error)], "") == 1
    assert "\x1b" not in (err := capsys.readouterr().err) and "\\x1b]0;title" in err


def test_a_run_that_has_ended_is_not_cancelled(capsys):
    run, _ = made()
    for number in range(1, 17):
        run.end(number, state=queue.FAILED, message="no", hint="", code=1)
    assert command(capsys, "cancel")[:2] == (0, f"{run.folder.name} has ended: no worker is left\n")
    assert not Queue(run.folder).stopped


def test_workers_that_can_only_be_ended_elsewhere_are_named(capsys, monkeypatch):
    run, _ = made()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("platform.node", lambda: "alpha")
        run.add_workers("local", {}, ["alpha:1:0"])
    (run.folder / "claims" / "000001.json").write_text(json.dumps({"worker": "alpha:1", "since": 0}))
    code, out, _ = command(capsys, "cancel")
    said = "workers on alpha go on until their cells have ended; `ddbench cancel {}` there ends them now"
    assert code == 0 and out.splitlines()[1] == said.format(run.folder.name)


def test_detach_is_refused_before_there_is_a_run(capsys):
    code, _, err = command(capsys, *WORDS, "--plugin", PLUGIN, "--jobs", 2, "--detach")
    assert code == 2 and "end with the command that started them" in err and not queue.queues()


def test_a_missing_configuration_names_the_variable(capsys, monkeypatch):
    monkeypatch.setenv("DDBENCH_CONFIG", "nowhere.toml")
    code, _, err = command(capsys, *WORDS, "--plugin", PLUGIN)
    assert code == 2 and "DDBENCH_CONFIG names nowhere.toml, which is not there." in err


def test_teachers_are_planned_without_torch():
    code = "import sys, ddbench_plugins.teachers.observers; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_the_driver_imports_no_torch():
    words = [*WORDS, "--plugin", str(PLUGIN), "--jobs", "1", "--repeats", "1", "--ipc", "1", "-m", "shared"]
    code = f"import sys; from ddbench import cli\ntry: cli.main({words!r})\nexcept SystemExit as e: assert not e.code"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
