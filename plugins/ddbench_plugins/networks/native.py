"""A CPU kernel for instance norm, compiled from C once per process (under a second) where there is a compiler.

With it ConvNets with instance norm train and test about twice as fast; without it, or outside of :func:`kernels`,
PyTorch's own operators are used. The kernel is differentiable once, so training loops and tests ask for it, and
everything else (matching of gradients, ``torch.func``, exports) is left alone.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

SOURCE = Path(__file__).with_name("instance_norm.c")
SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
#: The kernel keeps a few rows of channels on the stack.
MOST_CHANNELS = 4096

_asked: ContextVar[bool] = ContextVar("kernels", default=False)


@contextmanager
def kernels() -> Iterator[None]:
    """Use compiled kernels inside the block, if they can be had. Gradients of gradients cannot be taken in it."""
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


@functools.cache
def compiled() -> ctypes.CDLL | None:
    """Compile and load the kernel, or return None where that is not possible (another system, no compiler)."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "kernels.so"
        options = ("-O3", "-march=native", "-fno-math-errno", "-fno-strict-aliasing", "-fopenmp", "-shared", "-fPIC")
        try:
            # torch has loaded its OpenMP already, and this library gets the same one: threads are shared.
            subprocess.run([compiler, *options, "-o", made, SOURCE, "-lm"], check=True, capture_output=True, timeout=60)
            return ctypes.CDLL(str(made))
        except (OSError, subprocess.SubprocessError):
            return None


def fits(x: Tensor) -> bool:
    """Whether the kernel is asked for and can work on ``x`` ``[B, C, H, W]``: channels-last, on the CPU."""
    return (
        _asked.get()
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in SUFFIX
        and x.shape[0] > 0
        and x.shape[1] <= MOST_CHANNELS
        and x.is_contiguous(memory_format=torch.channels_last)
        and compiled() is not None
    )


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel of each image; for ``x`` that :func:`fits`, weight and bias float32 ``[C]``."""
    return _InstanceNorm.apply(x, weight, bias, eps)  # type: ignore[no-any-return]


class _InstanceNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        weight, bias = weight.contiguous(), bias.contiguous()
        samples, channels, height, width = x.shape
        y = torch.empty_like(x, memory_format=torch.channels_last)
        mean, rstd = torch.empty(2, samples, channels).unbind()
        sizes = (samples, height * width, channels)
        _call("forward", x.dtype, x, weight, bias, y, mean, rstd, *sizes, ctypes.c_float(eps))
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, rstd = ctx.saved_tensors
        samples, channels, height, width = x.shape
        dy = dy.to(x.dtype).contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x, memory_format=torch.channels_last)
        dweight, dbias = torch.empty(2, samples, channels).unbind()
        _call("backward", x.dtype, dy, x, weight, mean, rstd, dx, dweight, dbias, samples, height * width, channels)
        return dx, dweight.sum(0), dbias.sum(0), None


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    pointers = (ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in arguments)
    getattr(compiled(), f"{name}_{SUFFIX[dtype]}")(*pointers)
