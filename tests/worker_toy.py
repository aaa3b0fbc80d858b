"""Methods that share a step, note every build of it in a file, and take as long as the environment says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from toy_plugin import NearestMean, ToyData, ToyMethod, ToyOptions

import ddbench

NOTES = "DDBENCH_TEST_NOTES"


def note(what):
    with Path(os.environ[NOTES]).open("a") as file:
        file.write(f"{what} {os.getpid()}\n")
    seconds = float(os.environ.get("DDBENCH_TEST_SECONDS", "0"))
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        if "DDBENCH_TEST_SWALLOWS" not in os.environ:
            raise
        time.sleep(seconds)


@ddbench.step(data=True)
def base(ctx, out):
    note("base")
    np.save(out.dir / "base.npy", np.zeros(1))


class Shared(ToyMethod):
    Options = ToyOptions

    def needs(self, ctx):
        return [base.of(ctx)]

    def distill(self, ctx):
        base(ctx)
        note(f"set {ctx.ipc} {ctx.base_seed}")
        return super().distill(ctx)


def _shard(ctx, out, part):
    note(f"shard {part}")
    if os.environ.get("DDBENCH_TEST_FAIL") == str(part):
        raise ZeroDivisionError("on purpose")
    out.info["part"] = part


@ddbench.step(needs=[base], shards=lambda ctx: range(4), shard=_shard)
def parted(ctx, out):
    note("parted")
    assert [shard.info["part"] for shard in out.shards] == [0, 1, 2, 3]


class Parted(ToyMethod):
    Options = ToyOptions

    def needs(self, ctx):
        return [parted.of(ctx)]

    def distill(self, ctx):
        parted(ctx)
        return super().distill(ctx)


class Noted(NearestMean):
    def evaluate(self, ctx, distilled, repeat):
        note(f"student {repeat}")
        return super().evaluate(ctx, distilled, repeat)


@ddbench.hookimpl
def ddbench_methods():
    kinds = {"shared": Shared, "shared-too": Shared, "parted": Parted}
    return [ddbench.MethodSpec(name, kind, "toy") for name, kind in kinds.items()]


@ddbench.hookimpl
def ddbench_evaluators():
    return [ddbench.EvaluatorSpec("noted", Noted, "toy"), ddbench.EvaluatorSpec("noted-too", Noted, "toy")]


@ddbench.hookimpl
def ddbench_datasets():
    return [ddbench.DatasetSpec("toy", ToyData, "toy")]
