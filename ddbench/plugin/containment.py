"""What a plugin leaves behind in the process is restored, so that it harms no later one, and reported with its name."""

from __future__ import annotations

import contextlib
import importlib.util
import locale
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ddbench.errors import PluginError

#: Signals by which users and systems stop a run.
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")
#: Variables of the environment that are put back although they were not there before: those that ddbench, the number of
#: threads, devices and hubs go by. Others that appear are notes of libraries (scikit-learn's, torch's) for themselves.
WATCHED = ("DDBENCH_", "OMP_", "CUDA_VISIBLE_DEVICES", "HF_", "TRANSFORMERS_", "PYTHON")
#: What was there when ddbench began.
BEGUN = frozenset(os.environ)


class LeftBehind(UserWarning):
    """A plugin changed the process for others."""


@contextlib.contextmanager
def contained(who: str) -> Iterator[None]:
    """Put back what a block changes of the process: folder, file mask, streams, signals, NumPy's and torch's settings.

    Args:
        who: the plugin, for the warning that names what it changed.

    Raises:
        PluginError: something cannot be put back.
    """
    states, begun, on_import = _read(SETTINGS), {}, _OnImport()
    filters = list(warnings.filters)
    if "torch" in sys.modules:
        begun = _read(TORCH)
    else:
        sys.meta_path.insert(0, on_import)
    whole = False
    try:
        yield
        whole = True
    finally:
        if on_import in sys.meta_path:
            sys.meta_path.remove(on_import)
        _forgive(filters)
        changed, lost = _put_back(SETTINGS | TORCH, states | (begun or on_import.states))
        if lost and whole:  # else the error itself is more telling
            raise PluginError(
                f"{who} changed {', '.join(lost)} of the process, which cannot be restored.",
                hint="Let it leave them alone; other results of this process cannot be relied on.",
            )
        if changed:
            message = f"{who} changed {', '.join(changed)} of the process; it was restored."
            warnings.warn(message, LeftBehind, stacklevel=2)


Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def _read(settings: dict[str, Setting]) -> dict[str, Any]:
    return {name: read() for name, (read, _) in settings.items()}


def _put_back(settings: dict[str, Setting], states: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of what was changed and is worth telling, and of what stays changed."""
    changed, lost = [], []
    for name, (read, write) in settings.items():
        state = states.get(name)
        if state is None:  # of a module that was not there
            continue
        try:
            if read() == state:
                continue
            write(state)
            kept = read() == state
        except Exception:
            kept = False
        if not kept:
            lost.append(name)
        elif name not in DRAWN:
            changed.append(name)
    return changed, lost


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 (text, to be compared)
    except OSError:  # it was removed
        return ""


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _signals() -> list[Any]:
    return [signal.getsignal(getattr(signal, name)) for name in STOPPING]


def _set_signals(handlers: list[Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for name, handler in zip(STOPPING, handlers, strict=True):
        if handler is not None:  # one that was not set from Python
            signal.signal(getattr(signal, name), handler)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in BEGUN or name.startswith(WATCHED)}


def _set_environment(values: dict[str, str]) -> None:
    for name in _environment().keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def _pillow() -> Any:
    if "PIL.Image" not in sys.modules:
        return None
    broken = getattr(sys.modules.get("PIL.ImageFile"), "LOAD_TRUNCATED_IMAGES", False)
    return broken, sys.modules["PIL.Image"].MAX_IMAGE_PIXELS


def _set_pillow(state: tuple[bool, int | None]) -> None:
    broken, limit = state
    sys.modules["PIL.Image"].MAX_IMAGE_PIXELS = limit  # type: ignore[attr-defined]
    if "PIL.ImageFile" in sys.modules:
        sys.modules["PIL.ImageFile"].LOAD_TRUNCATED_IMAGES = broken  # type: ignore[attr-defined]


def _forgive(filters: list[Any]) -> None:
    """Take back filters that turn others' warnings into errors or hide all of them; libraries add harmless ones."""

    def harms(rule: Any) -> bool:
        action, message, category, module, _ = rule
        every = message is None and module is None and category in (Warning, UserWarning)
        return rule not in filters and (action == "error" or every)

    if any(map(harms, warnings.filters)):
        kept = [item for item in warnings.filters if not harms(item)]
        warnings.resetwarnings()
        warnings.filters[:] = kept  # type: ignore[index]


def _numpy_errors() -> Any:
    return sys.modules["numpy"].geterr() if "numpy" in sys.modules else None


def _set_numpy_errors(errors: Any) -> None:
    if errors is not None:
        sys.modules["numpy"].seterr(**errors)


def _numpy_drawn() -> Any:
    if "numpy" not in sys.modules:
        return None
    name, words, *rest = sys.modules["numpy"].random.get_state()
    return name, words.tobytes(), *rest


def _set_numpy_drawn(state: tuple[Any, ...]) -> None:
    numpy = sys.modules["numpy"]
    name, words, *rest = state
    numpy.random.set_state((name, numpy.frombuffer(words, numpy.uint32), *rest))


def _streams() -> list[Any]:
    # A closed one stays closed.
    return [(stream, getattr(stream, "closed", False)) for stream in (sys.stdout, sys.stderr)]


def _set_streams(streams: list[Any]) -> None:
    sys.stdout, sys.stderr = (stream for stream, _ in streams)


def _flushes() -> bool:
    half = 0.5  # a product of two literals would be worked out beforehand
    return sys.float_info.min * half == 0


SETTINGS: dict[str, Setting] = {
    "the current folder": (_folder, lambda folder: os.chdir(folder) if folder else None),
    "the file mask": (_mask, os.umask),
    "the streams": (_streams, _set_streams),
    "the signal handlers": (_signals, _set_signals),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the environment": (_environment, _set_environment),
    "the locale": (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    "Pillow's reading of truncated or large images": (_pillow, _set_pillow),
    "NumPy's handling of errors": (_numpy_errors, _set_numpy_errors),
    "Python's random numbers": (random.getstate, random.setstate),
    "NumPy's random numbers": (_numpy_drawn, _set_numpy_drawn),
}
#: What plugins may well use, and is put back without a word.
DRAWN = ("Python's random numbers", "NumPy's random numbers", "torch's random numbers", "torch's numbers on GPUs")


def _torch() -> Any:
    return sys.modules["torch"]


#: torch's kernels of attention, each with a switch.
ATTENTION = ("flash_sdp", "mem_efficient_sdp", "math_sdp")


def _flags() -> dict[str, Any]:
    backends = _torch().backends
    return {
        "benchmark": backends.cudnn.benchmark,
        "deterministic": backends.cudnn.deterministic,
        "enabled": backends.cudnn.enabled,
        "allow_tf32": backends.cudnn.allow_tf32,
        "mkldnn": backends.mkldnn.enabled,
        **{name: getattr(backends.cuda, f"{name}_enabled")() for name in ATTENTION},
    }


def _set_flags(flags: dict[str, Any]) -> None:
    backends = _torch().backends
    for name in ("benchmark", "deterministic", "enabled", "allow_tf32"):
        setattr(backends.cudnn, name, flags[name])
    backends.mkldnn.enabled = flags["mkldnn"]
    for name in ATTENTION:
        getattr(backends.cuda, f"enable_{name}")(flags[name])


def _deterministic() -> tuple[bool, bool]:
    return _torch().are_deterministic_algorithms_enabled(), _torch().is_deterministic_algorithms_warn_only_enabled()


def _torch_drawn() -> Any:
    return _torch().get_rng_state().numpy().tobytes()


def _set_torch_drawn(state: bytes) -> None:
    _torch().set_rng_state(_torch().frombuffer(bytearray(state), dtype=_torch().uint8))


def _gpus_drawn() -> Any:
    if not _torch().cuda.is_initialized():
        return None
    return [state.numpy().tobytes() for state in _torch().cuda.get_rng_state_all()]


def _set_gpus_drawn(states: list[bytes]) -> None:
    _torch().cuda.set_rng_state_all([_torch().frombuffer(bytearray(item), dtype=_torch().uint8) for item in states])


TORCH: dict[str, Setting] = {
    "torch's default type": (lambda: _torch().get_default_dtype(), lambda kind: _torch().set_default_dtype(kind)),
    "torch's default device": (
        lambda: str(_torch().get_default_device()),
        lambda name: _torch().set_default_device(None if name == "cpu" else name),
    ),
    "torch's recording of gradients": (
        lambda: _torch().is_grad_enabled(),
        lambda enabled: _torch().set_grad_enabled(enabled),
    ),
    "torch's number of threads": (lambda: _torch().get_num_threads(), lambda count: _torch().set_num_threads(count)),
    "torch's deterministic mode": (
        _deterministic,
        lambda mode: _torch().use_deterministic_algorithms(mode[0], warn_only=mode[1]),
    ),
    "torch's precision of products": (
        lambda: _torch().get_float32_matmul_precision(),
        lambda name: _torch().set_float32_matmul_precision(name),
    ),
    "torch's search for anomalies": (
        lambda: _torch().is_anomaly_enabled(),
        lambda enabled: _torch().autograd.set_detect_anomaly(enabled),
    ),
    "torch's settings of kernels": (_flags, _set_flags),
    "torch's flushing of tiny numbers": (_flushes, lambda flush: _torch().set_flush_denormal(flush)),
    "torch's autocast": (
        lambda: [_torch().is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        lambda on: [_torch().set_autocast_enabled(kind, item) for kind, item in zip(("cpu", "cuda"), on, strict=True)],
    ),
    "torch's random numbers": (_torch_drawn, _set_torch_drawn),
    "torch's numbers on GPUs": (_gpus_drawn, _set_gpus_drawn),
}


class _OnImport(MetaPathFinder):
    """Sees torch at the end of its import: what a block imports itself has no state from before the block."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Let the other finders find torch, and look at it when it has been executed."""
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def then_look(module: ModuleType) -> None:
                execute(module)
                self.states = _read(TORCH)

            spec.loader.exec_module = then_look  # type: ignore[method-assign]
        return spec
