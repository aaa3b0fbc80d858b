"""Is ddbench right on this GPU, does it resume after a kill, how fast is it, and does it reach the papers' numbers?

Parts, in order of worth: the machine, the speed of students and of matching loops (beside the released loops, in the
same run), whole evaluations beside the released ones, every method and evaluator against the CPU, kills, the papers'
cells. What is timed runs alone, the rest several processes at a time; what does not fit into --seconds is left out and
said. The same command resumes: finished parts are kept, cells of papers go on where they stopped.

--out gets results.json, report.md (the same as tables), logs/ and registry/ (ordinary records of the papers' cells).

examples:
  DDBENCH_DATA=… python benchmarks/gpu.py --out gpu-check --seconds 900
  python benchmarks/gpu.py --out gpu-check --parts machine,students,loops
  python benchmarks/gpu.py --out dry-run --device cpu --tiny          # the script itself, anywhere
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from gpu_parts import agreement, cells, evaluations, kills, loops, machine, report, students
from gpu_parts.jobs import Runner, Setting, carry_out

#: A part's jobs, in order; jobs that are timed run alone.
PARTS = {
    "machine": machine.jobs,
    "students": students.jobs,
    "loops": loops.jobs,
    "evaluations": evaluations.jobs,
    "agreement": agreement.jobs,
    "kills": kills.jobs,
    "cells": cells.jobs,
}


def main(words: list[str] | None = None) -> int:
    """Run the parts, or (in a child process) one job; return 1 where something is to be looked at."""
    args = arguments(words)
    setting = Setting(Path(args.out).resolve(), args.device, args.tiny, time.time() + args.seconds)
    jobs = list({job.name: job for part in args.parts.split(",") for job in PARTS[part](setting)}.values())
    if args.job:
        carry_out(next(job for job in jobs if job.name == args.job), setting)
        return 0
    runner = Runner(setting, [sys.executable, __file__, *(words if words is not None else sys.argv[1:])])
    left_out = runner.run(jobs)
    rows = runner.rows() + (agreement.compared(setting) if "agreement" in args.parts else [])
    print(report.write(setting, rows, left_out))
    return int(any(row.ok is False for row in rows))


def arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    about, examples = __doc__.split("examples:")  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(
        description=about, epilog="examples:" + examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="gpu-check", help="folder of results (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, … or cpu (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=900, help="for all of it (default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="of these, in this order (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="the smallest settings: tests the script, not the GPU")
    parser.add_argument("--job", default="", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if unknown := sorted(set(args.parts.split(",")) - PARTS.keys()):
        parser.error(f"unknown part {unknown[0]!r}; parts are {', '.join(PARTS)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
