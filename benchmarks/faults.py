"""Whether records stay what one process makes while jobs, nodes and daemons of a real Slurm or Ray are killed.

python benchmarks/faults.py slurm [--kills 10]     tasks killed and queued again, time limits, slurmd killed
python benchmarks/faults.py ray [--nodes 3]        nodes removed and others added

A study of 24 cells on digits: four methods, two protocols and three seeds, which share a teacher and a small diffusion
model. Slurm's programs must be installed (tools/slurm_sandbox.py). It takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STUDY = """
title = "Faults"
method = ["random", "rded", "dit", "minimax"]
eval = ["rded", "minimax"]
dataset = "digits"
ipc = 1
seed = [0, 1, 2]
repeats = 1
option.eval.epochs = {epochs}
option."method/dit".small_dit_steps = {steps}
option."method/minimax".small_dit_steps = {steps}
option."method/minimax".finetune_steps = {steps}
"""
#: A job of a minute is told half of it before, and must have saved something by then.
CHECKPOINT = "2"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
SANDBOX = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "slurm_sandbox.py"))


def command(home: Path, *words: str, **environment: str) -> list[str]:
    """Return a command that runs the study into a registry of its own, and set where."""
    os.environ.update(ONE_THREAD, DDBENCH_HOME=str(home), DDBENCH_CONFIG=str(home / "config.toml"), **environment)
    os.environ["DDBENCH_CHECKPOINT_SECONDS"] = CHECKPOINT
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").touch()
    machine = (
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--registry",
        str(home / "registry"),
        "--out",
        str(home / "boards"),
    )
    return [sys.executable, "-m", "ddbench", "run", str(home.parent / "study.toml"), "--quiet", *machine, *words]


def digests(home: Path) -> dict[str, str]:
    """Return the digests of all records."""
    paths = (home / "registry").glob("results/**/*.json")
    return {path.relative_to(home).as_posix(): json.loads(path.read_text("utf-8"))["digest"] for path in paths}


def ended(home: Path) -> int:
    """Return how many cells have ended."""
    return len(list(home.glob("runs/*/outcomes/*.json")))


def claimed(home: Path) -> dict[str, dict[str, Any]]:
    """Return the claims of cells that are held."""
    claims = {}
    for path in home.glob("runs/*/claims/*.json"):
        with contextlib.suppress(OSError, ValueError):
            claims[path.stem] = json.loads(path.read_text("utf-8"))
    return claims


def summary(one: Path, home: Path, seconds: float, faults: Counter[str]) -> dict[str, Any]:
    """Return what came of a run with faults."""
    expected, found = digests(one), digests(home)
    outcomes = [json.loads(path.read_text("utf-8")) for path in home.glob("runs/*/outcomes/*.json")]
    return {
        "records": len(found),
        "as one process": sum(found.get(name) == value for name, value in expected.items()),
        "failed": sum(outcome["state"] == "failed" for outcome in outcomes),
        "faults": dict(faults),
        "shared steps in the cache": {
            name: len(list(home.glob(f"{name}/*/step.json"))) for name in ("teacher", "small-dit")
        },
        "seconds": round(seconds),
    }


def driven(words: list[str], fault: Callable[[], None]) -> float:
    """Run a command to its end, with a fault now and then; return its seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        fault()
        time.sleep(1)
    return time.perf_counter() - start


def on_slurm(one: Path, home: Path, kills: int, every: float) -> dict[str, Any]:
    """Run the study as arrays of two at a time on a Slurm of one node, with every fault that Slurm has."""
    faults: Counter[str] = Counter()
    draw, after = random.Random(0), [time.monotonic() + 20]
    with SANDBOX["Sandbox"](home.parent / "sandbox", cpus=2, MaxArraySize=10) as cluster:
        plan = ["killed"] * kills + ["requeued"] * 3 + ["preempted"] * 2 + ["slurmd restarted"] * 2 + ["node lost"] * 2
        draw.shuffle(plan)

        def fault() -> None:
            running = cluster.jobs("RUNNING")
            if not plan or time.monotonic() < after[0] or not running or not claimed(home):
                return
            kind, job = plan.pop(), draw.choice(running)
            if kind == "killed":
                cluster.run("scancel", "--signal=KILL", "--full", job, check=False)
            elif kind == "requeued":
                cluster.run("scontrol", "requeue", job, check=False)
            elif kind == "preempted":
                cluster.run("sbatch", "--partition=urgent", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 5")
            else:
                cluster.kill("slurmd.pid")
                if kind == "node lost":  # and all that runs on it
                    for claim in claimed(home).values():
                        with contextlib.suppress(OSError):
                            os.kill(int(claim["worker"].rpartition(":")[2]), 9)
                    time.sleep(20)  # longer than SlurmdTimeout
                cluster.start_node()
            faults[kind] += 1
            after[0] = time.monotonic() + every * draw.uniform(0.3, 1.7)

        options = ("executor.array_parallelism=2", "slurm.time=1")
        words = [word for option in options for word in ("-o", option)]
        seconds = driven(command(home, "--executor", "slurm", *words, **cluster.environment), fault)
        told = {line for path in home.glob("runs/*/logs/slurm-*.log") for line in path.read_text("utf-8").splitlines()}
        faults["queued again at the time limit"] = sum("this job is timed-out" in line for line in told)
    return summary(one, home, seconds, faults)


def on_ray(one: Path, home: Path, nodes: int) -> dict[str, Any]:
    """Run the study on two nodes of Ray, of which one is lost and replaced again and again."""
    from ray.cluster_utils import Cluster

    faults: Counter[str] = Counter()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    others = [cluster.add_node(num_cpus=1)]
    after = [0.0]

    def fault() -> None:
        if len(claimed(home)) < 2:
            after[0] = time.monotonic() + 15
        elif time.monotonic() > after[0] and faults["nodes lost"] < nodes:
            cluster.remove_node(others.pop(), allow_graceful=False)
            others.append(cluster.add_node(num_cpus=1))
            faults["nodes lost"] += 1
            after[0] = time.monotonic() + 45

    try:
        address = f"executor.address={cluster.address}"
        seconds = driven(command(home, "--executor", "ray", "-o", address), fault)
    finally:
        cluster.shutdown()
    return summary(one, home, seconds, faults)


@contextlib.contextmanager
def folder(chosen: str) -> Iterator[Path]:
    """Yield a folder that stays, or one that does not."""
    if chosen:
        yield Path(chosen).absolute()
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def main() -> None:
    """Run the study by one process, if it has not been, and with faults; print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("slurm", "ray"))
    parser.add_argument("--epochs", type=int, default=200, help="of students")
    parser.add_argument("--steps", type=int, default=400, help="of the small diffusion transformer")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--every", type=float, default=15, help="seconds between two faults of Slurm, on average")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--folder", default="", help="kept; the records of one process in it are used again")
    given = parser.parse_args()
    with folder(given.folder) as place:
        place.mkdir(parents=True, exist_ok=True)
        (place / "study.toml").write_text(STUDY.format(epochs=given.epochs, steps=given.steps), "utf-8")
        one, home = place / "one", place / given.engine
        begun = time.perf_counter()
        subprocess.run(command(one), check=True, stdout=subprocess.DEVNULL)
        alone = round(time.perf_counter() - begun)
        result = (
            on_slurm(one, home, given.kills, given.every) if given.engine == "slurm" else on_ray(one, home, given.nodes)
        )
    print(json.dumps({"engine": given.engine, "seconds of one process": alone, **result}, indent=1))


if __name__ == "__main__":
    main()
