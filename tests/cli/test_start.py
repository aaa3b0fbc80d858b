import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = {"torch", "torchvision", "diffusers", "transformers", "sklearn", "timm", "pandas", "pydantic", "scipy"}


def imported(*arguments):
    """Return the top-level modules that a command imports, and its wall time without the import log."""
    command = [sys.executable, "-c", "from ddbench.cli import main; main()", *arguments]
    log = subprocess.run([*command[:1], "-X", "importtime", *command[1:]], capture_output=True, text=True, check=True)
    modules = {match.group(1) for match in re.finditer(r"\|\s+([A-Za-z_]\w*)[\w.]*$", log.stderr, re.MULTILINE)}
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return modules, min(times)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [(["--help"], 0.3), (["run", "--help"], 0.3), (["list"], 0.5), (["plugins"], 0.5)],
)
def test_a_quick_command_is_quick_and_imports_nothing_heavy(arguments, seconds):
    modules, spent = imported(*arguments)
    assert "click" in modules
    assert not modules & HEAVY
    # A loaded machine must not fail the build: the imports above are the real guard.
    assert spent < seconds * (4 if os.environ.get("CI") else 2)


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -c 'from ddbench.cli import main; main()' list | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "methods"
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_no_command_module_imports_heavy_packages_at_its_top():
    folder = Path(__file__).parents[2] / "ddbench" / "cli"
    for path in folder.glob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            assert not re.match(rf"(import|from) ({'|'.join(HEAVY)})\b", line), path.name
