"""C code that plugins compile on the spot: the one way to do it, and whether it can be done here.

Compiled kernels are fast and change the last digits of results, so whether this machine can have them is part of keys
(:meth:`ddbench.Machine.numerics`) and stands in records.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from ddbench.errors import DDBenchError

#: Set to 0 to do without kernels where they could be had, as the machine did that a record is from.
SWITCH = "DDBENCH_KERNELS"
# -O3 takes twice as long and makes nothing faster.
OPTIONS = [
    "-O2",
    "-ftree-vectorize",
    "-march=native",
    "-fno-math-errno",
    "-fno-strict-aliasing",
    "-fopenmp",
    "-shared",
    "-fPIC",
]
_TRIAL = """#include <math.h>
void trial(float *x, int n) {
#pragma omp parallel for
    for (int i = 0; i < n; i++) x[i] = sqrtf(x[i]);
}
"""


@cache
def obstacle() -> str:
    """Return why C cannot be compiled and loaded here, in words; nothing where it can."""
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH} is 0"
    if not sys.platform.startswith("linux"):
        return "they are made for Linux only"
    if not _compiler():
        return "there is no C compiler (cc, gcc, clang) on the PATH"
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, made = Path(folder, "trial.c"), Path(folder, "trial.so")
            source.write_text(_TRIAL, "ascii")
            _compile(source, made)
            # As loading does; but loading it would choose an OpenMP before torch brings its own.
            with made.open("rb") as file:
                mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
    except subprocess.CalledProcessError as error:
        return f"{_compiler()} fails: {_first_line(error.stderr)}"
    except OSError as error:
        return f"nothing can be compiled in {tempfile.gettempdir()}: {error.strerror or error}"
    return ""


def library(source: Path, *defines: str) -> ctypes.CDLL:
    """Compile and load a C file, where there is no :func:`obstacle`.

    Raises:
        DDBenchError: it fails after all; without kernels, digits would differ from what the keys state.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "kernels.so"
            _compile(source, made, *(f"-D{define}" for define in defines))
            # torch has loaded its OpenMP already, and this library gets the same one: threads are shared.
            return ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError) as error:
        reason = _first_line(getattr(error, "stderr", None) or str(error))
        raise DDBenchError(
            f"{source.name} cannot be compiled or loaded: {reason}",
            hint=f"See that {tempfile.gettempdir()} has space, or do without compiled kernels: {SWITCH}=0.",
        ) from error


def described() -> str:
    """Return the compiler and its version, or why there are no kernels: for records."""
    if reason := obstacle():
        return f"none: {reason}"
    return _first_line(subprocess.run([_compiler(), "--version"], capture_output=True, text=True, check=False).stdout)


def has_cxx() -> bool:
    """Return whether there is a C++ compiler, without which ``torch.compile`` does nothing on a CPU."""
    return any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))


def _compiler() -> str:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")


def _compile(source: Path, made: Path, *more: str) -> None:
    command = [_compiler(), *OPTIONS, *more, "-o", str(made), str(source), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no reason given")
