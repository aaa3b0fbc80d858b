"""Iterations of dm, dc and mtt at the papers' settings, beside the released loops on the same device."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_parts.jobs import Job, Row, Setting

PART = "loops"
CASES = (("dm", 1), ("dm", 10), ("dm", 50), ("dc", 1), ("dc", 10), ("mtt", 1))
#: How many times as fast as the released loop, at equal precision, ddbench is to be on a GPU.
GOAL = 3.0


def jobs(setting: Setting) -> list[Job]:
    """Return the one job."""
    return [Job(PART, "loops", work, 200, alone=True, threads=8)]


def work(setting: Setting) -> Iterator[Row]:
    """Yield milliseconds an iteration of both sides, and ratios in fp32 (equal precision) and in bf16."""
    import matching

    if setting.tiny:
        matching.PER_CLASS, matching.SIDE, matching.SYN_STEPS, matching.BATCH = 8, 16, 2, 4
    seconds = 3.0 if setting.on_gpu else 0.05
    for method, ipc in CASES[:1] if setting.tiny else CASES:

        def ms(side: str, precision: str, method: str = method, ipc: int = ipc) -> float:
            where = matching.Where(setting.device, precision)
            return 1e3 / float(matching.measure(side, ipc, seconds, method, where)["rate"])

        released, fp32, bf16 = ms("released", "fp32"), ms("ddbench", "fp32"), ms("ddbench", "bf16")
        figures = {"released fp32, ms": released, "fp32, ms": fp32, "bf16, ms": bf16}
        ratios = {"ratio fp32": released / fp32, "ratio bf16": released / bf16}
        ok = released / fp32 >= GOAL if setting.on_gpu else None
        yield Row(PART, f"{method}, IPC {ipc}", figures | ratios, ok, f"goal: {GOAL:g} × at fp32")
