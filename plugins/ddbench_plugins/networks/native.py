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
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ddbench import compiler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

SOURCE = Path(__file__).with_name("instance_norm.c")
SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
#: The kernels keep up to fifteen rows of channels on the stack.
MOST_CHANNELS = 2048

_asked: ContextVar[bool] = ContextVar("kernels", default=False)


@contextmanager
def kernels() -> Iterator[None]:
    """Use compiled kernels inside the block, if they can be had; what is run in it has no third derivatives."""
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Have attention written out inside the block: PyTorch's fused ones have no second derivatives."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@functools.cache
def compiled(dtype: torch.dtype = torch.float32) -> ctypes.CDLL | None:
    """Compile and load the kernels of a type, or return None where there are none: see ``compiler.obstacle``."""
    if dtype not in SUFFIX:
        return None
    if reason := compiler.obstacle():
        _tell(reason)
        return None
    return compiler.library(SOURCE, f"TYPE={SUFFIX[dtype]}")


@functools.cache
def _tell(reason: str) -> None:
    """Say once what is different without kernels."""
    warnings.warn(
        f"Without compiled kernels, for {reason}: ConvNets take twice as long, and last digits differ from those of"
        " machines that have them.",
        stacklevel=2,
    )


def fits(x: Tensor, weight: Tensor, bias: Tensor, *, pooled: bool = False) -> bool:
    """Whether the kernel is asked for and can work on ``x`` ``[B, C, H, W]`` with weight and bias ``[C]``.

    All must be on the CPU, weight and bias float32, ``x`` float32 or bfloat16; with ``pooled`` its sides must be even.
    """
    return (
        _asked.get()
        and not torch.compiler.is_compiling()
        and x.device.type == weight.device.type == bias.device.type == "cpu"
        and x.dtype in SUFFIX
        and weight.dtype == bias.dtype == torch.float32
        and x.shape[0] > 0
        and x.shape[1] <= MOST_CHANNELS
        and not (pooled and (x.shape[2] % 2 or x.shape[3] % 2))
        and compiled(x.dtype) is not None
    )


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel of each image, for tensors that :func:`fits` lets pass; the result is channels-last."""
    return _run(x, weight, bias, eps, 1)


def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Instance norm, ReLU and 2×2 average pooling at once: ``[B, C, H, W] -> [B, C, H/2, W/2]``, H and W even."""
    return _run(x, weight, bias, eps, 2)


def _run(x: Tensor, weight: Tensor, bias: Tensor, eps: float, side: int) -> Tensor:
    # Here and not in the function, so that gradients find their way back through it.
    x = x.contiguous(memory_format=torch.channels_last)
    return _InstanceNorm.apply(x, weight.contiguous(), bias.contiguous(), eps, side)


class _InstanceNorm(torch.autograd.Function):
    """The norm (side 1), or the norm with ReLU and pooling of ``side`` × ``side`` pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, side: int) -> Tensor:
        y = _empty(x, side)
        mean, rstd = _per_channel(x), _per_channel(x)
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
        dweight, dbias = _per_channel(x), _per_channel(x)
        _call("backward", x.dtype, dy, x, weight, bias, mean, rstd, dx, dweight, dbias, *_sizes(x), side)
        ctx.save_for_backward(dy, x, weight, bias, mean, rstd)
        ctx.side = side
        return dx, dweight.sum(0), dbias.sum(0)

    @staticmethod
    def backward(
        ctx: Any, by_dx: Tensor, by_dweight: Tensor, by_dbias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None, None, None]:
        return *_InstanceNormTwice.apply(by_dx, by_dweight, by_dbias, *ctx.saved_tensors, ctx.side), *[None] * 4


class _InstanceNormTwice(torch.autograd.Function):
    """The backward pass of the backward pass, where it ends."""

    @staticmethod
    def forward(
        ctx: Any,
        by_dx: Tensor,
        by_dweight: Tensor,
        by_dbias: Tensor,
        dy: Tensor,
        x: Tensor,
        weight: Tensor,
        *rest: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        *statistics, side = rest
        given = _like(by_dx, x), by_dweight.contiguous(), by_dbias.contiguous()
        ddy, ddx, ddweight = _empty(x, side), _empty(x), _per_channel(x)
        _call("twice", x.dtype, *given, dy, x, weight, *statistics, ddy, ddx, ddweight, *_sizes(x), side)
        return ddy, ddx, ddweight.sum(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        # Not once_differentiable, whose refusal autograd overlooks when only other inputs are asked for.
        raise RuntimeError("the compiled instance norm has no third derivatives: leave ddbench's kernels() out")


def _empty(x: Tensor, side: int = 1) -> Tensor:
    samples, channels, height, width = x.shape
    shape = (samples, channels, height // side, width // side)
    return torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)


def _per_channel(x: Tensor) -> Tensor:
    return torch.empty(x.shape[:2], dtype=torch.float32)


def _sizes(x: Tensor) -> tuple[int, int, int, int]:
    samples, channels, height, width = x.shape
    return samples, height * width, channels, width


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    return gradient.to(x.dtype).contiguous(memory_format=torch.channels_last)


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    pointers = (ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in arguments)
    getattr(compiled(dtype), f"{name}_{SUFFIX[dtype]}")(*pointers)
