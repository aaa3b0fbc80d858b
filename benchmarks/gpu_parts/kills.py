"""Commands ended by SIGKILL after a checkpoint, and begun again: they must resume, and end as undisturbed ones do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gpu_parts import agreement, settings
from gpu_parts.jobs import Job, Row, Setting

PART = "kills"
#: By label: the command, and options that let it write several checkpoints before its end.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dm": ("method", {**settings.METHODS["dm"], "iterations": 300}),
    "dsa": ("method", {**settings.METHODS["dsa"], "iterations": 20}),
    "idc": ("method", {**settings.METHODS["idc"], "iterations": 10}),
    "mtt": ("method", {**settings.METHODS["mtt"], "iterations": 60}),
    "sre2l": ("method", {**settings.METHODS["sre2l"], "iterations": 500}),
    "vlcp": ("method", {**settings.METHODS["vlcp"], "finetune_epochs": 4}),
    "minimax": ("eval", {"epochs": 300, "batch_size": 10}),
}
#: Resumed images may differ from undisturbed ones by this many times what two undisturbed ones differ by.
FACTOR, LEAST = 3.0, 1e-3
#: Seconds to wait for a checkpoint.
PATIENCE = 120.0


def jobs(setting: Setting) -> list[Job]:
    """Return a job for every case."""
    names = ("dm",) if setting.tiny else CASES
    first = [] if setting.tiny else [agreement.teacher_job()]
    return first + [Job(PART, f"kill-{name}", partial(work, name), 240, home=f"kill-{name}") for name in names]


def work(name: str, setting: Setting) -> Iterator[Row]:
    """Yield how far a resumed result is from an undisturbed one."""
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:

        def run(home: str) -> _Command:
            return _Command(name, setting, Path(scratch) / home)

        first, again = run("first").result(), run("second").result()
        killed, resumed = run("killed").ended_at_a_checkpoint(), run("killed").result()
    spread = max(float(np.linalg.norm(first - first.mean())), 1e-12)
    twice, apart = (float(np.linalg.norm(first - other)) / spread for other in (again, resumed))
    least = LEAST if setting.on_gpu else 0.0  # a CPU gives the same digits
    figures = {"killed": killed, "two runs apart": twice, "resumed apart": apart}
    yield Row(PART, f"{name}, {setting.device}", figures, killed and apart <= max(FACTOR * twice, least))


class _Command:
    """One command in an artifact folder of its own."""

    def __init__(self, name: str, setting: Setting, home: Path) -> None:
        kind, options = CASES[name]
        given = settings.filled(options, str(agreement.teacher_file(setting)))
        what = {"method": ["distill", "-m", name, "--out", str(home / "out")]}.get(
            kind, ["run", "-m", "random", "-e", name, "--repeats", "1", "--registry", str(home / "out")]
        )
        pairs = [word for key, value in given.items() for word in ("-o", f"{kind}.{key}={_text(value)}")]
        place = ["-d", "digits", "--ipc", str(settings.IPC), "--device", setting.device, "--offline", "-q"]
        self.words = [sys.executable, "-m", "ddbench", *what, *place, *pairs]
        self.home, self.kind = home, kind
        self.environment = {**os.environ, "DDBENCH_HOME": str(home), "DDBENCH_CHECKPOINT_SECONDS": "0"}

    def result(self) -> Any:
        """Run to the end; return images, or the logits' decisions and final loss of a student, as numbers."""
        import numpy as np

        import ddbench

        subprocess.run(self.words, env=self.environment, check=True)
        if self.kind == "method":
            (folder,) = (self.home / "out").iterdir()
            return ddbench.load(folder).distilled.images.astype(np.float64)
        (record,) = ddbench.records(self.home / "out")
        return np.array([record.result.values[0], record.result.metrics[0]["final_loss"]])

    def ended_at_a_checkpoint(self) -> bool:
        """Start, and kill as soon as a checkpoint of the method or student is there; return whether that succeeded."""
        process = subprocess.Popen(self.words, env=self.environment)
        until = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < until:
            if any(self.home.rglob("checkpoint-*.pt")):
                time.sleep(0.3)  # some steps further
                process.kill()
                break
            time.sleep(0.005)
        process.kill()
        return process.wait() < 0


def _text(value: Any) -> str:
    return "true" if value is True else "false" if value is False else "none" if value is None else str(value)
