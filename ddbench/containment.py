"""What a plugin leaves behind in the process is put back, so that it harms no later one, and told with its name."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

#: Signals by which users and systems stop a run.
STOPPING = ("SIGINT", "SIGTERM")


@contextlib.contextmanager
def contained(who: str) -> Iterator[None]:
    """Put back what a block changes of the process: folder, file mask, streams, signals, NumPy's and torch's settings.

    Args:
        who: the plugin, for the warning that names what it changed.
    """
    states = {name: read() for name, (read, _) in SETTINGS.items()}
    had_torch = "torch" in sys.modules
    torch_states = {name: read() for name, (read, _) in TORCH.items()} if had_torch else {}
    try:
        yield
    finally:
        changed = _put_back(SETTINGS, states)
        if "torch" in sys.modules:
            changed += _put_back(TORCH, torch_states or _usual())
        if changed:
            listed = ", ".join(changed)
            warnings.warn(f"{who} changed {listed} of the process; it was put back.", stacklevel=2)


Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def _put_back(settings: dict[str, Setting], states: dict[str, Any]) -> list[str]:
    changed = []
    for name, (read, write) in settings.items():
        if name in states and read() != states[name]:
            write(states[name])
            changed.append(name)
    return changed


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


def _numpy_errors() -> Any:
    return sys.modules["numpy"].geterr() if "numpy" in sys.modules else None


def _set_numpy_errors(errors: Any) -> None:
    if errors is not None:
        sys.modules["numpy"].seterr(**errors)


def _set_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


SETTINGS: dict[str, Setting] = {
    "the current folder": (_folder, lambda folder: os.chdir(folder) if folder else None),
    "the file mask": (_mask, os.umask),
    "the streams": (lambda: (sys.stdout, sys.stderr), _set_streams),
    "the signal handlers": (_signals, _set_signals),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "NumPy's handling of errors": (_numpy_errors, _set_numpy_errors),
}


def _torch() -> Any:
    return sys.modules["torch"]


def _flags() -> dict[str, Any]:
    backends = _torch().backends
    return {
        "benchmark": backends.cudnn.benchmark,
        "deterministic": backends.cudnn.deterministic,
        "enabled": backends.cudnn.enabled,
        "mkldnn": backends.mkldnn.enabled,
    }


def _set_flags(flags: dict[str, Any]) -> None:
    backends = _torch().backends
    for name in ("benchmark", "deterministic", "enabled"):
        setattr(backends.cudnn, name, flags[name])
    backends.mkldnn.enabled = flags["mkldnn"]


def _deterministic() -> tuple[bool, bool]:
    return _torch().are_deterministic_algorithms_enabled(), _torch().is_deterministic_algorithms_warn_only_enabled()


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
}


def _usual() -> dict[str, Any]:
    """Return how torch begins, for one that was imported meanwhile; how many threads it began with is not known."""
    torch = _torch()
    return {
        "torch's default type": torch.float32,
        "torch's default device": "cpu",
        "torch's recording of gradients": True,
        "torch's deterministic mode": (False, False),
        "torch's precision of products": "highest",
        "torch's search for anomalies": False,
    }
