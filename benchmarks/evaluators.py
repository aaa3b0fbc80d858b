"""How long ddbench's evaluators take against trainings that feed and compute as the released code does.

Every run is a process of its own on all cores, with cold compile caches, one at a time, ddbench and released in turn.
Runs are appended to --out; started again with the same --out, the benchmark goes on where it stopped. The result is
printed as Markdown. What is compared is told in docs/reference/benchmarks.md.

examples:
  python benchmarks/evaluators.py --protocol dc --epochs 20 --repeats 1      a first look, on the embedded digits
  DDBENCH_DATA=… python benchmarks/evaluators.py --data cifar10 --out runs.jsonl
  python benchmarks/evaluators.py --data cifar10 --out runs.jsonl --report    the tables of what is finished
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import summary
from one_run import OURS, default_epochs

HERE = Path(__file__).resolve().parent
SIDES = ("ours", "released")
LEAST_EPOCHS = 6


def main() -> int:
    """Run the benchmark."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the run in progress, too
    with tempfile.TemporaryDirectory(prefix="ddbench-benchmark-") as scratch:
        out = args.out or Path(scratch) / "runs.jsonl"
        work = out.with_suffix(".work").resolve()
        work.mkdir(parents=True, exist_ok=True)
        if not args.report:
            run_all(args, out, work)
        report(args, out, work)
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("examples:")[0], epilog="examples:" + __doc__.split("examples:")[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--protocol", default="rded,minimax,dc", help=f"of {', '.join(OURS)}; dsa is dc with DSA (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs per protocol (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="instead of the protocol's own; said in the table")
    parser.add_argument("--ipc", type=int, default=10, choices=(1, 10, 50), help="images per class (default: 10)")
    parser.add_argument(
        "--data", default="", help="a data set of ddbench, e.g. cifar10; the embedded digits when empty"
    )
    parser.add_argument("--out", type=Path, help="JSON lines of finished runs; prepared files go beside it")
    parser.add_argument("--device", default="cpu", help="of both sides: cpu or cuda (default: %(default)s)")
    parser.add_argument("--loop-seconds", type=float, default=3.0, help="per case of the loop table; 0 leaves it out")
    parser.add_argument("--report", action="store_true", help="run nothing, print the tables of what --out holds")
    args = parser.parse_args()
    args.protocols = list(dict.fromkeys(name.strip() for name in args.protocol.split(",")))
    for name in args.protocols:
        if name not in OURS:
            parser.error(f"unknown protocol {name!r}; known: {', '.join(OURS)}")
    if args.repeats < 1 or (args.epochs is not None and args.epochs < LEAST_EPOCHS):
        parser.error(f"at least 1 repeat and {LEAST_EPOCHS} epochs are needed (RDED tests in the last fifth only)")
    if args.report and not (args.out and args.out.exists()):
        parser.error("--report needs the --out file of an earlier run")
    if not args.data:
        args.data = "digits"
        print(
            "no --data: the embedded digits (16 pixels, grey) are used, which say little about speed", file=sys.stderr
        )
    return args


def run_all(args: argparse.Namespace, out: Path, work: Path) -> None:
    """Do what is not yet in ``out``."""
    child({"do": "prepare", "dataset": args.data, "ipc": args.ipc, "teacher": "rded" in args.protocols}, work)
    made = json.loads((work / "prepared.json").read_text("utf-8"))
    done = {key(row) for row in read(out)}
    if args.loop_seconds and "loop" not in done:
        say("student loops")
        append(out, {"do": "loop"} | child({"do": "loop", "seconds": args.loop_seconds, "device": args.device}, work))
    for protocol in args.protocols:
        full = default_epochs(protocol, made["size"], made["ipc"], made["classes"])
        epochs = args.epochs or full
        for seed in range(args.repeats):
            for side in SIDES:
                wanted = {"do": "run", "protocol": protocol, "side": side, "epochs": epochs, "seed": seed}
                if key(wanted) in done:
                    continue
                say(f"{protocol}, pair {seed + 1} of {args.repeats}, {side}")
                result = child(wanted | {"device": args.device}, work)
                append(out, wanted | {"full_epochs": full} | result)
                say(f"  {result['seconds']:.1f} s, {result['accuracy']:.2%}")


def key(row: dict[str, Any]) -> Any:
    """What makes a run the same as another one."""
    return "loop" if row["do"] == "loop" else tuple(row[name] for name in ("protocol", "side", "epochs", "seed"))


def child(request: dict[str, Any], work: Path) -> dict[str, Any]:
    """Run :mod:`one_run` in a fresh process on all cores; return what it prints."""
    cores = str(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "DDBENCH_HOME": str(work / "home"),
            "TORCHINDUCTOR_CACHE_DIR": cache,
            "OMP_NUM_THREADS": cores,
            "MKL_NUM_THREADS": cores,
        }
        command = [sys.executable, str(HERE / "one_run.py"), json.dumps(request | {"work": str(work)})]
        found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise SystemExit(f"{request} failed; its error is above. Finished runs are kept.")
    lines = found.stdout.splitlines()
    return json.loads(lines[-1]) if lines else {}


def read(out: Path) -> list[dict[str, Any]]:
    """Read finished runs; a last line cut short by an interruption is left out."""
    rows = []
    for line in out.read_text("utf-8").splitlines() if out.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            say(f"ignored an incomplete line of {out.name}")
    return rows


def append(out: Path, row: dict[str, Any]) -> None:
    """Add one finished run."""
    old = out.read_text("utf-8") if out.exists() else ""
    with out.open("a", encoding="utf-8") as file:
        file.write(("\n" if old and not old.endswith("\n") else "") + json.dumps(row) + "\n")


def report(args: argparse.Namespace, out: Path, work: Path) -> None:
    """Print the tables."""
    made = json.loads((work / "prepared.json").read_text("utf-8"))
    rows = read(out)
    measured = next((row for row in rows if row["do"] == "loop"), {"peaks": {}})
    lines = []
    for protocol in args.protocols:
        mine = [row for row in rows if row["do"] == "run" and row["protocol"] == protocol]
        for epochs in sorted({row["epochs"] for row in mine}):
            if args.epochs not in (None, epochs):
                continue
            sides = {
                side: {row["seed"]: row for row in mine if (row["side"], row["epochs"]) == (side, epochs)}
                for side in SIDES
            }
            seeds = sorted(sides["ours"].keys() & sides["released"].keys())
            if not seeds:
                continue
            ours, theirs = ([sides[side][seed] for seed in seeds] for side in SIDES)
            if ours[0]["steps"] != theirs[0]["steps"]:
                say(f"{protocol}: the sides differ in steps, {ours[0]['steps']} and {theirs[0]['steps']}")
            passes = 4 if protocol == "rded" else 3  # forward, backward twice as much, the teacher
            run = epochs + (protocol in ("dc", "dsa"))
            flops = passes * made["forward_flops"] * made["ipc"] * made["classes"] * run
            lines.append(summary.compare(protocol, ours, theirs, measured["peaks"], flops))
    print(f"Data set {made['dataset']}, IPC {made['ipc']}, ConvNet-3 of width 128, {os.cpu_count()} cores.\n")
    print(summary.table(summary.COMPARED, lines))
    if measured["peaks"]:
        peaks = ", ".join(f"{value / 1e9:.0f} GFLOP/s in {name}" for name, value in measured["peaks"].items())
        print(f"\nMatrix-multiply peak: {peaks}. ddbench's training loop alone, in {measured['precision']}:\n")
        print(summary.table(summary.LOOPS, summary.loops(measured)))


def say(message: str) -> None:
    """Tell what is going on, apart from the tables."""
    print(time.strftime("%H:%M:%S"), message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
