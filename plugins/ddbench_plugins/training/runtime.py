"""How the arithmetic runs: memory allocator, precision, memory layout, compilation. No result depends on timing."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ddbench import DivergedError, compiler
from ddbench_plugins.networks import native
from ddbench_plugins.networks.norms import InstanceNorm

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

Precision = str
"""``auto``, ``fp32``, ``tf32``, ``bf16`` or ``fp16``."""
Compile = Literal["auto", "never", "always"]

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: A scale of the loss below this means that fp16 gradients overflow whatever it is.
_LEAST_SCALE = 2.0**-14
_CPU_FLOPS = 3e11  # what two modest cores reach with these networks in bfloat16; only a scale for "is it worth it"
_COMPILE_SECONDS = 30.0


def resolve_precision(precision: Precision, device: torch.device | str) -> Precision:
    """Turn "auto" into bf16 where the processor multiplies bfloat16 natively, else fp32."""
    if precision != "auto":
        if precision not in _DTYPES:
            raise ValueError(f"precision must be one of {sorted(_DTYPES)}, not {precision!r}")
        return precision
    match torch.device(device).type:
        case "cpu":
            capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
            native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        case "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        case _:
            native = False
    return "bf16" if native else "fp32"


def autocast(precision: Precision, device: torch.device | str) -> AbstractContextManager[object]:
    """Mixed-precision context for forward passes."""
    dtype = _DTYPES[resolve_precision(precision, device)]
    return nullcontext() if dtype == torch.float32 else torch.autocast(torch.device(device).type, dtype)


class LossScaler(torch.amp.GradScaler):
    """Multiplies fp16 losses, so that small gradients do not become 0, and leaves out steps whose gradients overflow.

    With other precisions it does nothing: ``scale(loss).backward()``, ``step(optimiser)``, ``update()`` are then what
    they are without it.
    """

    def __init__(self, precision: Precision, device: torch.device | str) -> None:
        super().__init__(torch.device(device).type, enabled=resolve_precision(precision, device) == "fp16")

    def check(self, what: str) -> None:
        """Refuse to continue where step after step is left out: nothing would be learned, without a word.

        Raises:
            DivergedError: gradients are not finite at any scale.
        """
        if self.is_enabled() and self.get_scale() < _LEAST_SCALE:
            raise DivergedError(
                f"The gradients of {what} are not finite in fp16, at any scale of the loss.",
                hint="Use --precision bf16 or fp32, or lower the learning rate.",
            )


def forward_flops(network: nn.Module, image: Tensor) -> int:
    """Floating-point operations of one forward pass of one image ``[1, C, H, W]`` (2 per multiply-add)."""
    from torch.utils.flop_counter import FlopCounterMode

    training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(training)
    return int(counter.get_total_flops())


def compile_if_worth_it(
    network: nn.Module, example: Tensor, samples: int, compile: Compile, precision: Precision = "auto"
) -> Any:
    """Return ``network``, compiled for training on ``samples`` images in all if that pays and is possible.

    "auto" compares an estimate of the seconds saved, from operation counts (never from timings, so that a seed always
    takes the same path), with the seconds compiling takes; on a GPU, where steps are CUDA graphs, it does not compile.
    Failing to compile, for example without a C++ compiler, is not an error: the network then runs as it is.
    """
    plain: Callable[[Tensor], Tensor] = network
    on_cpu = example.device.type == "cpu"
    if compile == "never" or (on_cpu and not compiler.has_cxx()) or (compile == "auto" and not on_cpu):
        return plain
    if compile == "auto":
        seconds = 3 * forward_flops(network, example[:1]) * samples / _CPU_FLOPS
        # Fusing halves the time of networks with per-image norms that have no good kernel as batch norm has.
        dtype = _DTYPES[resolve_precision(precision, example.device)]
        fast = InstanceNorm if native.compiled(dtype) is not None else ()
        slow = any(isinstance(m, nn.GroupNorm) and not isinstance(m, fast) for m in network.modules())
        share = 0.5 if slow else 0.07
        if seconds * share < _COMPILE_SECONDS:
            return plain
    try:
        forward: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
        with torch.no_grad(), autocast(precision, example.device):
            forward(example)
    except Exception as error:  # any compiler failure means: run without it
        torch.compiler.reset()
        warnings.warn(
            f"torch.compile failed ({type(error).__name__}): this training takes longer, and its last digits differ"
            " from those of machines where it works.",
            stacklevel=2,
        )
        return plain
    return forward
