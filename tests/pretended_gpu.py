"""A pretended GPU for machines without one: numbers are computed on the CPU, the rules are those of CUDA.

Inside :func:`pretended` tensors can be put on ``cuda``. Mixing devices, drawing on the device from a CPU generator and
handing its memory to native code raise as on a card. Kernel launches are counted and, by the line that asked for it,
whatever makes the host wait: ``item()``, masks, ``nonzero``, copies to the host, copies from memory that is not pinned.
A captured CUDA graph is replayed operator by operator on its own memory, so what a capture freezes is frozen.

What it cannot show: the kernels of cuDNN, streams that race, time.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GPU = torch.device("cuda", 0)
HERE = Path(__file__).resolve().parent.parent
# fmt: off
#: Operators without a kernel.
FREE = {
    "alias", "as_strided", "detach", "diagonal", "expand", "lift_fresh", "narrow", "permute", "select",
    "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsafe_split",
    "unsqueeze", "view", "_unsafe_view", "_reshape_alias", "empty", "empty_like", "empty_strided",
    "new_empty", "new_empty_strided", "resize_", "set_", "sym_size",
}
#: Operators that make the host wait for the device.
WAITS = {
    "_local_scalar_dense", "_unique2", "bincount", "equal", "is_nonzero", "masked_select", "nonzero",
    "unique_consecutive", "unique_dim",
}
# fmt: on
#: What makes a tensor on the device from data of the host.
FROM_HOST = ("tensor", "as_tensor", "asarray", "new_tensor")
INDEXING = ("__getitem__", "__setitem__", "index_put_", "index_put")


class DeviceError(RuntimeError):
    """What would fail on a card."""


class GpuTensor(torch.Tensor):
    """A tensor on the pretended GPU."""

    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return 0


class Cost(NamedTuple):
    """What one more step takes of the device and of the host."""

    launches: float
    waits: dict[str, float]


class Gpu:
    """What was done on the pretended GPU so far."""

    def __init__(self) -> None:
        self.launches, self.kernels, self.waits = 0, Counter[str](), Counter[str]()
        self.capturing: Graph | None = None
        self.working = 0
        self._pinned: dict[int, torch.Tensor] = {}

    def wait(self, what: str) -> None:
        """Note that the host waits, which a capture does not survive."""
        if self.capturing is not None:
            raise DeviceError(f"{what} while a CUDA graph is captured: {caller()}")
        self.waits[f"{what}: {caller()}"] += 1

    def launch(self, name: str) -> None:
        """Note that a kernel was started."""
        self.launches += 1
        self.kernels[name] += 1

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy in pinned memory."""
        made = tensor.clone()
        self._pinned[made.untyped_storage().data_ptr()] = made
        return made

    def pinned(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor of the host lies in pinned memory."""
        return tensor.untyped_storage().data_ptr() in self._pinned

    def cost_of_a_step(self, run: Callable[[int], object]) -> Cost:
        """Return what a step takes: ``run(steps)`` with three steps more, from six on, when nothing is new any more."""
        seen = []
        for steps in (6, 9):
            launches, waits = self.launches, Counter(self.waits)
            run(steps)
            seen.append((self.launches - launches, self.waits - waits))
        (few, waited), (many, waited_more) = seen
        return Cost((many - few) / 3, {line: count / 3 for line, count in (waited_more - waited).items()})


def caller() -> str:
    """Return the line of ddbench, else of whoever called torch, that is at work."""
    frame, other = sys._getframe(1), ""
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file != Path(__file__):
            line = f"{file.name}:{frame.f_lineno}"
            if file.is_relative_to(HERE) and "site-packages" not in file.parts:
                return f"{file.relative_to(HERE)}:{frame.f_lineno}"
            other = other or line
        frame = frame.f_back  # type: ignore[assignment]
    return other


def on_gpu(tensor: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, GpuTensor):
        return tensor
    if tensor.is_leaf and tensor.requires_grad:  # a view would be none
        return tensor.detach().as_subclass(GpuTensor).requires_grad_()
    return tensor.as_subclass(GpuTensor)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_subclass(torch.Tensor)


class Rules(TorchFunctionMode):
    """Says which tensors are on the device, and what may be done with them."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name, gpu = dict(kwargs or {}), getattr(func, "__name__", ""), self.gpu
        if name in ("__get__", "__set__", "__delete__"):
            name = f"{getattr(func.__self__, '__name__', '')}.{name}"
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
        match name:
            case "_parse_to" | "_has_compatible_shallow_copy_type":
                return func(*args, **kwargs)
            case "pin_memory":
                return gpu.pin(args[0])
            case "is_pinned":
                return gpu.pinned(args[0])
            case "to" | "cpu" | "cuda" if isinstance(args[0], torch.Tensor):
                return self.move(name, args[0], args[1:], kwargs)
            case "numpy" | "tolist" | "__array__" if there:
                gpu.wait("copy to the host")
                return func(plain(args[0].detach()), *args[1:], **kwargs)
            case "__reduce_ex__" if there:
                gpu.wait("copy to the host")
                return func(plain(args[0].detach()), *args[1:])
            case "__deepcopy__" if there:
                return self.deepcopy(*args)
            case "data_ptr" if there:
                raise DeviceError(f"native code is handed memory of the device: {caller()}")
            case "__format__" | "__repr__" if there:
                return f"tensor on the pretended GPU {tuple(args[0].shape)}"
        wanted = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        if not there and (wanted is None or wanted.type != "cuda"):
            return func(*args, **kwargs)
        self.check(name, args, kwargs, tensors, wanted)
        kwargs.pop("device", None)
        if kwargs.pop("pin_memory", False):
            raise DeviceError(f"only memory of the host can be pinned: {caller()}")
        gpu.working += 1
        try:
            made = func(*args, **kwargs)
        finally:
            gpu.working -= 1
        if wanted is not None and wanted.type == "cpu":
            gpu.wait("copy to the host")
            return made
        return tree_map_only(torch.Tensor, on_gpu, made)

    def check(self, name: str, args: Any, kwargs: Any, tensors: list[torch.Tensor], wanted: Any) -> None:
        """Raise what CUDA would, and note what makes the host wait."""
        gpu, generator = self.gpu, kwargs.get("generator")
        if generator is not None and generator.device.type == "cpu":
            raise DeviceError(f"a CPU generator for numbers of the device in {name}: {caller()}")
        apart = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor) and tensor.dim() > 0]
        if name in FROM_HOST:
            gpu.wait("copy from the host")
        elif name in INDEXING:
            if not isinstance(args[0], GpuTensor):
                raise DeviceError(f"indices on the device for a tensor on the host: {caller()}")
            index = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)]
            if any(leaf.dtype in (torch.bool, torch.uint8) for leaf in index):
                gpu.wait("mask")
            if apart:
                gpu.wait("copy from the host")
        elif name == "copy_" and apart:
            free = (kwargs.get("non_blocking") or args[2:3] == (True,)) and all(map(gpu.pinned, apart))
            if not isinstance(args[0], GpuTensor):
                gpu.wait("copy to the host")
            elif not free:
                gpu.wait("copy from the host")
        elif apart and not name.endswith("__set__"):
            raise DeviceError(f"tensors of two devices in {name}, {tuple(apart[0].shape)} on the host: {caller()}")

    def move(self, name: str, tensor: torch.Tensor, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        """Do what ``to``, ``cpu`` and ``cuda`` do."""
        gpu, rest, target = self.gpu, list(args), {"cpu": torch.device("cpu"), "cuda": GPU}.get(name)
        if name == "to":
            given = kwargs.pop("device", None)
            if rest and isinstance(rest[0], torch.Tensor):
                other = rest.pop(0)
                given, kwargs["dtype"] = other.device, other.dtype
            elif rest and isinstance(rest[0], str | torch.device):
                given = rest.pop(0)
            target = tensor.device if given is None else torch.device(given)
            for place, key in enumerate(("dtype", "non_blocking", "copy")):
                if len(rest) > place and not (place == 0 and rest[0] is None):
                    kwargs[key] = rest[place]
        else:
            rest = []
        free = kwargs.pop("non_blocking", False)
        before, after = isinstance(tensor, GpuTensor), target is not None and target.type == "cuda"
        gpu.working += before
        try:
            made = torch.Tensor.to(tensor, **kwargs) if kwargs else tensor
            if before != after and made is tensor:
                made = tensor.clone(memory_format=torch.preserve_format)
        finally:
            gpu.working -= before
        if before and not after:
            gpu.wait("copy to the host")
        elif after and not before:
            gpu.launch("copy")
            if not (free and gpu.pinned(tensor)):
                gpu.wait("copy from the host")
        return (on_gpu if after else plain)(made) if isinstance(made, GpuTensor) != after else made

    def deepcopy(self, tensor: torch.Tensor, memo: dict[int, Any]) -> Any:
        if id(tensor) not in memo:
            made = on_gpu(plain(tensor.detach()).clone(memory_format=torch.preserve_format))
            memo[id(tensor)] = (
                torch.nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else made
            )
        return memo[id(tensor)]


class Operators(TorchDispatchMode):
    """Counts operators of the device below autograd, backward passes included, and keeps those of a capture."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, gpu, name = kwargs or {}, self.gpu, func._schema.name.partition("::")[2]
        if not gpu.working:
            return func(*args, **kwargs)
        if name in WAITS:
            gpu.wait(name.strip("_"))
        elif name not in FREE:
            gpu.launch(name)
        if gpu.capturing is not None:
            gpu.capturing.save(func, args, kwargs)
        made = func(*args, **kwargs)
        if gpu.capturing is not None:
            gpu.capturing.keep(func, args, kwargs, made)
        return made


class Graph:
    """A CUDA graph: what was done while it was captured is done again with the same memory."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.done: list[tuple[Any, Any, Any, Any]] = []
        self.before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def save(self, func: Any, args: Any, kwargs: Any) -> None:
        """Keep what an operator will change: a capture does nothing yet."""
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                changed = args[place] if place < len(args) else kwargs.get(argument.name)
                tensors = [leaf for leaf in tree_leaves(changed) if isinstance(leaf, torch.Tensor)]
                self.before.extend((tensor, tensor.detach().clone()) for tensor in tensors)

    def forget(self) -> None:
        """Undo what was done to be captured."""
        with torch.no_grad(), torch._C.DisableTorchFunction():
            for tensor, kept in reversed(self.before):
                tensor.copy_(kept)

    def keep(self, func: Any, args: Any, kwargs: Any, made: Any) -> None:
        """Note an operator that was captured; views of memory need not be taken again."""
        if func._schema.name.partition("::")[2] not in FREE:
            self.done.append((func, args, kwargs, made))

    def pool(self) -> tuple[int, int]:
        return (0, 0)

    def replay(self) -> None:
        """Launch the graph."""
        gpu = _active[-1]
        gpu.launch("graph")
        working, gpu.working = gpu.working, 0
        try:
            with torch.no_grad(), torch._C.DisableTorchFunction():
                for func, args, kwargs, made in self.done:
                    again = func(*args, **kwargs)
                    for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                        if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                            old.copy_(new)
        finally:
            gpu.working = working


_active: list[Gpu] = []


@contextlib.contextmanager
def _capture(graph: Graph, **_: Any) -> Iterator[None]:
    gpu = _active[-1]
    launches, kernels = gpu.launches, Counter(gpu.kernels)
    gpu.capturing = graph
    try:
        yield
    finally:
        gpu.capturing, working, gpu.working = None, gpu.working, 0
        graph.forget()
        gpu.working = working
        gpu.launches, gpu.kernels = launches, kernels  # a capture launches nothing


class _Autocast(torch.autocast):
    """Casts for the device as for the CPU, whose lists of operators are nearly the same."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


class _Stream:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def wait_stream(self, other: object) -> None: ...

    def synchronize(self) -> None:
        _active[-1].wait("synchronize")

    def is_capturing(self) -> bool:
        return _active[-1].capturing is not None


def _grouped(tensors: Any, with_indices: bool = False) -> Any:
    """Group tensors as optimisers do, by where they are said to be."""
    groups = torch._C._group_tensors_by_device_and_dtype(tensors, with_indices)
    there = any(isinstance(tensor, GpuTensor) for column in tensors for tensor in column)
    return {(GPU if there else device, dtype): group for (device, dtype), group in groups.items()}


def _generator(device: Any = "cpu") -> Any:
    if torch.device(device).type == "cuda":
        raise DeviceError(f"generators of the device give other numbers than those of the CPU: {caller()}")
    return _CpuGenerator(device)


_CpuGenerator = torch.Generator
_PATCHES: dict[str, Any] = {
    "is_available": lambda: True,
    "_lazy_init": lambda: None,
    "is_initialized": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "is_bf16_supported": lambda including_emulation=True: True,
    "get_device_name": lambda device=None: "pretended GPU",
    "get_device_capability": lambda device=None: (9, 0),
    "get_device_properties": lambda device=None: SimpleNamespace(
        name="pretended GPU", total_memory=80 << 30, major=9, minor=0, multi_processor_count=132
    ),
    "mem_get_info": lambda device=None: (80 << 30, 80 << 30),
    "reset_peak_memory_stats": lambda device=None: None,
    "max_memory_allocated": lambda device=None: 0,
    "memory_allocated": lambda device=None: 0,
    "empty_cache": lambda: None,
    "synchronize": lambda device=None: _active[-1].wait("synchronize"),
    "manual_seed": lambda seed: None,
    "manual_seed_all": lambda seed: None,
    "get_rng_state": lambda device="cuda": torch.zeros(16, dtype=torch.uint8),
    "set_rng_state": lambda state, device="cuda": None,
    "is_current_stream_capturing": lambda: _active[-1].capturing is not None,
    "Stream": _Stream,
    "current_stream": _Stream,
    "stream": lambda stream: contextlib.nullcontext(),
    "CUDAGraph": Graph,
    "graph": _capture,
    "graph_pool_handle": lambda: (0, 0),
}


@contextlib.contextmanager
def pretended() -> Iterator[Gpu]:
    """Let torch believe that there is one GPU, and return what is done on it."""
    gpu, overwritten = Gpu(), torch.__future__.get_overwrite_module_params_on_conversion()
    _active.append(gpu)
    with contextlib.ExitStack() as stack:
        for name, stand_in in _PATCHES.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        for module in (torch, torch.amp, torch.amp.autocast_mode):
            stack.enter_context(mock.patch.object(module, "autocast", _Autocast))
        for module in ("torch.utils._foreach_utils", "torch.optim.optimizer", "torch.nn.utils.clip_grad"):
            named = importlib.import_module(module)
            stack.enter_context(mock.patch.object(named, "_group_tensors_by_device_and_dtype", _grouped))
        stack.enter_context(mock.patch.object(torch.accelerator, "current_stream", _Stream))
        stack.enter_context(mock.patch.object(torch, "compile", lambda module, **_: module))
        stack.enter_context(Operators(gpu))
        stack.enter_context(Rules(gpu))
        # Parameters that are moved are new ones, as they must be to say where they are.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            yield gpu
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwritten)
            _active.pop()
