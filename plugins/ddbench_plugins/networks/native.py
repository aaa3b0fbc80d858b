"""CPU kernels for instance norm, alone or with the ReLU and pooling of the ConvNet, compiled from C once per process
(about a second) where there is a compiler.

With them ConvNets train and test about twice as fast, and gradients of gradients (DC, IDC, MTT) take two fifths of the
time in float32, a quarter in bfloat16; without them, or outside of :func:`kernels`, PyTorch's own operators are used.
They are differentiable twice, by ``torch.autograd`` only, so training loops, tests and matching ask for them, and
everything else (``torch.func``, exports) is left alone.
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
    """Use compiled kernels inside the block, if they can be had; what is run in it has no third derivatives."""
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


@functools.cache
def compiled(dtype: torch.dtype = torch.float32) -> ctypes.CDLL | None:
    """Compile and load the kernels of a type, or return None where that is impossible (another system, no compiler)."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "kernels.so"
        # -O3 takes twice as long and makes nothing faster.
        options = ["-O2", "-ftree-vectorize", "-march=native", "-fno-math-errno", "-fno-strict-aliasing", "-fopenmp"]
        options += ["-shared", "-fPIC", f"-DTYPE={SUFFIX[dtype]}"]
        try:
            # torch has loaded its OpenMP already, and this library gets the same one: threads are shared.
            subprocess.run([compiler, *options, "-o", made, SOURCE, "-lm"], check=True, capture_output=True, timeout=60)
            return ctypes.CDLL(str(made))
        except (OSError, subprocess.SubprocessError):
            return None


def fits(x: Tensor, *, pooled: bool = False) -> bool:
    """Whether the kernel is asked for and can work on ``x`` ``[B, C, H, W]``: channels-last, on the CPU.

    With ``pooled`` the sides must be even as well.
    """
    return (
        _asked.get()
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in SUFFIX
        and x.shape[0] > 0
        and x.shape[1] <= MOST_CHANNELS
        and not (pooled and (x.shape[2] % 2 or x.shape[3] % 2))
        and x.is_contiguous(memory_format=torch.channels_last)
        and compiled(x.dtype) is not None
    )


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel of each image; for ``x`` that :func:`fits`, weight and bias float32 ``[C]``."""
    return _InstanceNorm.apply(x, weight, bias, eps, 1)  # type: ignore[no-any-return]


def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Instance norm, ReLU and 2×2 average pooling at once: ``[B, C, H, W] -> [B, C, H/2, W/2]``, H and W even."""
    return _InstanceNorm.apply(x, weight, bias, eps, 2)  # type: ignore[no-any-return]


class _InstanceNorm(torch.autograd.Function):
    """The norm (side 1), or the norm with ReLU and pooling of ``side`` × ``side`` pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, side: int) -> Tensor:
        weight, bias = weight.contiguous(), bias.contiguous()
        y = _empty(x, side)
        mean, rstd = torch.empty(2, *x.shape[:2]).unbind()
        _call("forward", x.dtype, x, weight, bias, y, mean, rstd, *_sizes(x), side, ctypes.c_float(eps))
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.side = side
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        return *_InstanceNormBackward.apply(dy, *ctx.saved_tensors, ctx.side), None, None


class _InstanceNormBackward(torch.autograd.Function):
    """Its backward pass; ``mean`` and ``rstd`` follow from ``x``, so the gradient by ``x`` counts what they do."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        dy, dx = _like(dy, x), _empty(x)
        dweight, dbias = torch.empty(2, *x.shape[:2]).unbind()
        _call("backward", x.dtype, dy, x, weight, bias, mean, rstd, dx, dweight, dbias, *_sizes(x), side)
        ctx.save_for_backward(dy, x, weight, bias, mean, rstd)
        ctx.side = side
        return dx, dweight.sum(0), dbias.sum(0)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(
        ctx: Any, by_dx: Tensor, by_dweight: Tensor, by_dbias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None, None, None]:
        dy, x, *rest = ctx.saved_tensors
        given = _like(by_dx, x), by_dweight.contiguous(), by_dbias.contiguous()
        ddy, ddx, ddweight = _empty(x, ctx.side), _empty(x), torch.empty(x.shape[:2])
        _call("twice", x.dtype, *given, dy, x, *rest, ddy, ddx, ddweight, *_sizes(x), ctx.side)
        return ddy, ddx, ddweight.sum(0), None, None, None, None


def _empty(x: Tensor, side: int = 1) -> Tensor:
    samples, channels, height, width = x.shape
    shape = (samples, channels, height // side, width // side)
    return torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)


def _sizes(x: Tensor) -> tuple[int, int, int, int]:
    samples, channels, height, width = x.shape
    return samples, height * width, channels, width


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    return gradient.to(x.dtype).contiguous(memory_format=torch.channels_last)


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    pointers = (ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in arguments)
    getattr(compiled(dtype), f"{name}_{SUFFIX[dtype]}")(*pointers)
