"""Reads the fenced blocks of a Markdown file and runs those that readers are meant to run.

```python title="NAME.py"   a file to write
```python                   code to run
```console                  ``$ command`` lines with the output they give; … stands for any text, or for any lines
everything else             is not run
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddbench.cli import main


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is to be written to, its text, and the line it starts at."""

    language: str
    file: str
    text: str
    line: int


def blocks(path: Path) -> Iterator[Block]:
    """Return the blocks of a file in order."""
    text = path.read_text("utf-8")
    for found in re.finditer(r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2] or "", found[3], text.count("\n", 0, found.start()) + 1)


class Reader:
    """Does with blocks what a reader in one folder would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {}
        self.code = 0

    def follow(self, block: Block) -> None:
        """Write, run, or skip a block; the current folder is the reader's."""
        if block.language == "console":
            self.console(block.text)
        elif block.language == "python" and block.file:
            (self.folder / block.file).write_text(block.text, "utf-8")
        elif block.language == "python":
            exec(compile(block.text, f"line {block.line}", "exec"), self.names)

    def console(self, text: str) -> None:
        """Run the commands of a block and compare what they print."""
        parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
        for command, shown in zip(parts[1::2], parts[2::2], strict=True):
            checked = re.search(re.escape(f"$ {command}\n{shown}") + r"\$ echo \$\?", text) or command == "echo $?"
            found = self.command(command)
            assert matches(shown, found), f"$ {command}\n{found}\n--- does not look like\n{shown}"
            assert checked or self.code == 0, f"$ {command} exits with {self.code}:\n{found}"

    def command(self, command: str) -> str:
        """Run one command and return what it prints; `echo $?` prints the last exit code."""
        if command == "echo $?":
            return f"{self.code}\n"
        program, *arguments = shlex.split(command)
        if program == "pytest":
            options = ["-q", "-p", "no:cacheprovider", "-p", "no:warnings", "--rootdir", str(self.folder)]
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *arguments], capture_output=True, text=True
            )
            self.code = done.returncode
            return done.stdout + done.stderr
        assert program == "ddbench", f"cannot run {program}"
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                main(arguments)
            except SystemExit as stopped:
                self.code = int(stopped.code or 0)
        return output.getvalue()


def matches(shown: str, found: str) -> bool:
    """Whether output looks as shown: spaces, numbers and digests may differ."""
    pattern = ""
    for line in shown.splitlines():
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += (
                " ?" + "".join(map(_pattern, re.findall(r"[0-9a-f]{8}\b|\d[\d.]*|…|\s+|.", line.strip()))) + r"\s*?\n"
            )
    return re.fullmatch(pattern, re.sub(r"[ \t]+", " ", found)) is not None


def _pattern(token: str) -> str:
    if token == "…":
        return ".*"
    if token.isspace():
        return r"\s+"
    if re.fullmatch(r"[0-9a-f]{8}", token):
        return "[0-9a-f]{8}"
    return r"\d[\d.]*" if token[0].isdigit() else re.escape(token)
