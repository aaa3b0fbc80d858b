"""A Slurm cluster of one node on this machine, without root and accounting, for tests and benchmarks.

python tools/slurm_sandbox.py FOLDER     starts one, prints what to set, and ends it when the input is closed

It needs the programs only (Debian: apt-get install slurm-wlm munge); all of its files are in the folder.
"""

from __future__ import annotations

import getpass
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
#: Where Debian keeps daemons, which is not on every path.
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])


def missing() -> str:
    """Return the first program that is not installed, or ""."""
    return next((name for name in PROGRAMS if not shutil.which(name, path=PATH)), "")


class Sandbox:
    """A cluster that runs inside of ``with``."""

    def __init__(self, folder: Path, cpus: int = 2, **settings: Any) -> None:
        """Choose a folder, the number of cores that Slurm believes in, and further settings of slurm.conf."""
        self.folder, self.host = folder, platform.node().partition(".")[0]
        ports = _free_ports(2)
        self.settings: Mapping[str, Any] = {
            "ClusterName": "sandbox",
            "SlurmctldHost": f"{self.host}(127.0.0.1)",
            "SlurmctldPort": ports[0],
            "SlurmdPort": ports[1],
            "SlurmUser": getpass.getuser(),
            "SlurmdUser": getpass.getuser(),
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={folder / 'munge.socket'},cred_expire=5",  # a job is queued again after that time
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "JobAcctGatherType": "jobacct_gather/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SchedulerParameters": "sched_interval=1,batch_sched_delay=0",
            "SlurmdParameters": "config_overrides",
            "KillWait": 10,
            "SlurmdTimeout": 15,
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": folder / "spool",
            "SlurmctldPidFile": folder / "slurmctld.pid",
            "SlurmdPidFile": folder / "slurmd.pid",
            "SlurmctldLogFile": folder / "slurmctld.log",
            "SlurmdLogFile": folder / "slurmd.log",
            **settings,
            "NodeName": f"{self.host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000",
        }

    @property
    def environment(self) -> dict[str, str]:
        """What makes Slurm's commands use this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}

    def __enter__(self) -> Sandbox:
        for part in ("state", "spool"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}" for name, value in self.settings.items()]
        everywhere = f"Nodes={self.host} MaxTime=INFINITE State=UP"
        lines += [f"PartitionName=main {everywhere} Default=YES PriorityTier=1 GraceTime=5"]
        lines += [f"PartitionName=urgent {everywhere} PriorityTier=10"]
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n", "utf-8")
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        files = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        munge = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
        self.run("munged", "--force", f"--key-file={key}", *munge)
        self.run("slurmctld")
        self.start_node()
        deadline = time.monotonic() + 60
        while self.run("sinfo", "--noheader", "--format=%T", "--partition=main", check=False).strip() != "idle":
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "slurmctld.log").read_text("utf-8", "replace")[-2000:])
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self.run("scancel", f"--user={os.getuid()}", "--signal=KILL", "--full", check=False)
        self.run("scancel", f"--user={os.getuid()}", check=False)
        deadline = time.monotonic() + 20
        while self.jobs() and time.monotonic() < deadline:
            time.sleep(0.2)
        for name in ("slurmd.pid", "slurmctld.pid", "munge.pid"):
            self.kill(name, signal.SIGTERM)

    def run(self, *words: str, check: bool = True) -> str:
        """Run a program of Slurm on this cluster and return what it prints."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self, state: str = "") -> list[str]:
        """Return the numbers of the jobs in a state, or of all that have not ended."""
        words = ["squeue", "--noheader", "--array", "--format=%i", *([f"--states={state}"] if state else [])]
        return self.run(*words, check=False).split()

    def start_node(self) -> None:
        """Start the node's daemon, which takes up jobs that still run."""
        self.run("slurmd")

    def kill(self, name: str = "slurmd.pid", number: signal.Signals = signal.SIGKILL) -> None:
        """Kill a daemon by the file of its process id."""
        try:
            os.kill(int((self.folder / name).read_text("utf-8")), number)
        except (OSError, ValueError):
            return
        deadline = time.monotonic() + 10
        while (self.folder / name).exists() and number != signal.SIGKILL and time.monotonic() < deadline:
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def main() -> None:
    """Run a cluster until the input is closed."""
    folder = Path(sys.argv[1]).absolute()
    if name := missing():
        raise SystemExit(f"{name} is not installed (Debian: apt-get install slurm-wlm munge)")
    with Sandbox(folder) as cluster:
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
