import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "torchvision", "diffusers", "transformers", "sklearn", "timm", "pandas", "pydantic", "scipy"}


def imported(*arguments):
    """Return the names of the modules that a command imports."""
    command = [sys.executable, "-X", "importtime", "-c", "from ddbench.cli import main; main()", *arguments]
    log = subprocess.run(command, capture_output=True, text=True, check=True)
    return {match.group(1) for match in re.finditer(r"\|\s+([A-Za-z_][\w.]*)$", log.stderr, re.MULTILINE)}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list"], ["plugins"]])
def test_a_quick_command_imports_nothing_heavy(arguments):
    modules = imported(*arguments)
    assert "click" in modules
    assert not {name.partition(".")[0] for name in modules} & HEAVY


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
